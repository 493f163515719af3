//! A boot that nobody talks to: all that it is told stands in its first initramfs, and all that it answers in a file, so that it does
//! the same each time. What needs the host while it runs is left out.

use super::phases::{FirstGuest, load_request, says_intact, start, stopped_by};
use super::plant::flipped;
use super::{Boot, Run, host, no_device, no_machine};
use crate::evidence::Stop;
use crate::fault::{Fault, KernelEnd};
use crate::reach::Identity;
use crate::seed;
use luqual_model::{Phase, Side};
use luqual_protocol::{LoadTime, Need, Reply, Request, VERSION};
use luqual_vm::{ANSWERS, CONSOLE_RAW, Lines, Machine, MachineEnd, Mode};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What the guest does on its own, and the phase that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    phase: Phase,
    /// How many kexecs were made before it.
    hop: u32,
    request: Request,
}

impl Run<'_> {
    /// All phases, as [`Run::sequence`] has them.
    pub(super) async fn scripted(&mut self) -> Result<(), Stop> {
        self.check_requirements()?;
        let (boot, plant) = (self.boot, self.host.plant.as_ref());
        if let Some(why) = needs_the_host(boot, plant) {
            return Err(Stop::Requirement(why));
        }
        let identities: Vec<Identity<'_>> = (0..=boot.update().hops)
            .map(|hop| boot.identity(hop, seed::drawn(self.seed, &format!("nonce {hop}"))))
            .collect();
        let mode = boot.mode(self.host.accel, Some(self.seed));
        let steps = script(boot, self.seed, plant, &identities, mode);
        let line = |step: &Step| serde_json::to_string(&step.request).map(|line| line + "\n");
        let requests = steps.iter().map(line).collect::<Result<String, _>>().map_err(host("the script"))?;
        let mut lines = self.start_alone(&identities[0], &requests, mode).await?;
        // Whether something broke in this kernel, and whether it begins no other update since (autorun.rs in the agent).
        let (mut broke, mut is_out) = (false, false);
        // What the next kernel said before it was seen to begin.
        let mut early = None;
        for step in &steps {
            let is_last = step.phase == Phase::Collect;
            // Nothing is answered by a kernel that is gone; that it is not is the answer to what comes next.
            if step.request == Request::Panic || is_out && !is_last {
                continue;
            }
            let machine = self.machine.as_ref().ok_or_else(no_machine)?;
            if step.request == Request::Kexec {
                let left = leave(machine, &mut lines, step.hop + 2);
                match self.recorder.phase(step.phase, step.hop, Some((machine, None)), left).await? {
                    None => {}
                    Some(hello @ Reply::Hello(_)) => early = Some(hello),
                    Some(reply) => drop(self.take_in(step, reply, &identities, &mut lines).await?),
                }
                continue;
            }
            let early = early.take();
            let asked = self.recorder.phase(step.phase, step.hop, Some((machine, None)), async {
                let reply = match early {
                    Some(reply) => reply,
                    None => answer(machine, &mut lines).await?,
                };
                if is_last {
                    match machine.wait_end().await {
                        MachineEnd::PoweredOff => {}
                        end => return Err(Stop::Machine(end)),
                    }
                }
                Ok(reply)
            });
            let reply = asked.await?;
            self.hop = step.hop;
            let held = self.take_in(step, reply, &identities, &mut lines).await?;
            broke = !held || broke && step.phase != Phase::Reconnect;
            is_out |= broke && step.phase == Phase::Finish;
        }
        Ok(())
    }

    /// Until the guest has something to say.
    async fn start_alone(&mut self, source: &Identity<'_>, requests: &str, mode: Mode) -> Result<Lines, Stop> {
        let (boot, host_, logs, recorder) = (self.boot, self.host, &self.logs, &mut self.recorder);
        let started = recorder.started();
        let (slot, work) = (&mut self.machine, &mut self.work);
        recorder
            .phase(Phase::Boot, 0, None, async {
                fs::create_dir_all(logs).map_err(host(logs.display()))?;
                let guest = FirstGuest { source, keys: None, requests: Some(requests), mode };
                let machine = slot.insert(start(boot, host_, guest, logs, started, work).await?);
                let mut lines = Lines::open(&logs.join(ANSWERS)).map_err(host(ANSWERS))?;
                tokio::select! {
                    biased;
                    () = lines.ready() => Ok(lines),
                    end = machine.wait_end() => Err(Stop::Machine(end)),
                }
            })
            .await
    }

    /// Takes in an answer, and says whether all held that it tells of.
    async fn take_in(
        &mut self,
        step: &Step,
        reply: Reply,
        identities: &[Identity<'_>],
        lines: &mut Lines,
    ) -> Result<bool, Stop> {
        let side = self.side_in(step.phase);
        match (reply, &step.request) {
            (Reply::Hello(hello), Request::Hello { .. }) => {
                let identity = &identities[step.hop as usize];
                identity.check(&hello).map_err(Stop::Stranger)?;
                if step.hop > 0 {
                    self.target_taint = hello.taint;
                    self.machine.as_ref().ok_or_else(no_machine)?.console().set_side(Side::Target);
                    return Ok(true);
                }
                self.source_taint = hello.taint;
                let luo = self.boot.parts.iter().any(|part| part.workload.needs.contains(&Need::Luo));
                if luo && !hello.liveupdate { Err(no_device(identity.kernel)) } else { Ok(true) }
            }
            (Reply::KernelLog(log), Request::KernelLog) => self.collected(log).map(|()| true),
            (Reply::Done { said, taint }, request)
                if !matches!(request, Request::Hello { .. } | Request::KernelLog) =>
            {
                match self.side() {
                    Side::Source => self.source_taint = taint,
                    Side::Target => self.target_taint = taint,
                }
                let held = said.probes.iter().all(|probe| probe.held);
                self.checked[0].take(said, step.phase, step.hop);
                Ok(held)
            }
            (reply @ Reply::Refused { .. }, _) if side == Side::Source => {
                let machine = self.machine.as_ref().ok_or_else(no_machine)?;
                // It looks at its state once more, if it came so far as to have any.
                let mut intact = Ok(());
                while let (true, Ok(reply)) = (intact.is_ok(), answer(machine, lines).await) {
                    intact = says_intact(reply);
                }
                Err(stopped_by(reply, side, intact))
            }
            (reply, _) => Err(stopped_by(reply, side, Ok(()))),
        }
    }
}

/// The next answer; what was answered before the machine's end counts.
async fn answer(machine: &Machine, lines: &mut Lines) -> Result<Reply, Stop> {
    let line = tokio::select! {
        biased;
        line = lines.next() => line,
        end = machine.wait_end() => lines.try_next().ok_or(Stop::Machine(end))?,
    };
    serde_json::from_str(&line).map_err(|error| Stop::Agent(format!("{ANSWERS}: `{line}`: {error}")))
}

/// Waits until a kernel is left for the `number`-th, or for an answer: the next one's first if nothing of that was to be seen, else what
/// this one has to say to a kexec that it did not make.
async fn leave(machine: &Machine, lines: &mut Lines, number: u32) -> Result<Option<Reply>, Stop> {
    let console = machine.console();
    // One that dies before its banner has been entered all the same.
    let left = || async {
        tokio::select! {
            () = console.saw(LEAVING, number as usize - 1) => {}
            () = console.began(number) => {}
        }
    };
    let answered = tokio::select! {
        biased;
        () = left() => return Ok(None),
        answered = answer(machine, lines) => answered,
    };
    match answered {
        // The end is told sooner than what was said before it.
        Err(Stop::Machine(end)) => {
            console.drain(LAST_WORDS, Duration::from_secs(1)).await;
            let is_left = tokio::time::timeout(Duration::ZERO, left()).await.is_ok();
            if is_left { Ok(None) } else { Err(Stop::Machine(end)) }
        }
        answered => answered.map(Some),
    }
}

/// A kernel's last words before the next one (kernel/kexec_core.c, kernel_kexec()).
const LEAVING: &str = "kexec_core: Starting new kernel";

/// A console that is quiet for so long has been read to its end.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Whether all that such a boot wrote is its own doing: it came to its end, and was not ended by the host, whose clock is another each time.
pub(super) fn is_of_its_own(stop: &Stop, end: Option<&MachineEnd>) -> bool {
    let is_by_the_host = matches!(stop, Stop::Deadline { .. } | Stop::Host(_) | Stop::Interrupted);
    let has_ended = matches!(end, Some(MachineEnd::Panicked | MachineEnd::Reset | MachineEnd::PoweredOff));
    has_ended && !is_by_the_host
}

/// The SHA-256 of all that such a boot wrote: its console, then its answers.
pub(super) fn digest(logs: &Path) -> Option<String> {
    let mut digest = Sha256::new();
    for name in [CONSOLE_RAW, ANSWERS] {
        digest.update(fs::read(logs.join(name)).ok()?);
    }
    Some(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Why a boot cannot be left alone.
fn needs_the_host(boot: &Boot<'_>, plant: Option<&Fault>) -> Option<String> {
    let [part] = boot.parts.as_slice() else { return Some("cells that share a boot are not deterministic".to_owned()) };
    let workload = part.workload;
    if let Some(device) = workload.device() {
        return Some(format!("{} has {device}, a live device, which is not deterministic", workload.name));
    }
    if workload.needs.contains(&Need::Kvm) {
        return Some(format!(
            "{} has virtual machines that the host looks at, which is not deterministic",
            workload.name
        ));
    }
    match plant {
        None | Some(Fault::Flip { .. } | Fault::FlipUnpreserved | Fault::Kernel { end: KernelEnd::Panic, .. }) => None,
        Some(fault) => Some(format!("{fault} is planted by the host, which is not deterministic")),
    }
}

/// What a boot of one part does, in order. Pure.
fn script(boot: &Boot<'_>, seed: u64, plant: Option<&Fault>, identities: &[Identity<'_>], mode: Mode) -> Vec<Step> {
    let name = boot.parts[0].workload.name;
    let (workload, content) = (|| name.to_owned(), seed::of_content(seed, name));
    let update = boot.update();
    let mut steps = Vec::new();
    let mut add = |phase, hop, request| steps.push(Step { phase, hop, request });
    let hello = || Request::Hello { protocol: VERSION };
    add(Phase::Handshake, 0, hello());
    for hop in 1..=update.hops {
        let before = hop - 1;
        let load = load_request(boot, hop, &identities[hop as usize], mode);
        if update.load == LoadTime::BeforePreserve {
            add(Phase::Load, before, load.clone());
        }
        add(Phase::Preserve, before, Request::Preserve { workload: workload(), seed: content, device: None });
        if let Some((place, offset)) = plant.filter(|_| before == 0).and_then(flipped) {
            add(Phase::Preserve, before, Request::Flip { workload: workload(), place, offset });
        }
        if update.load != LoadTime::BeforePreserve {
            add(Phase::Load, before, load);
        }
        add(Phase::Kexec, before, Request::Kexec);
        add(Phase::Reconnect, hop, hello());
        add(Phase::Retrieve, hop, Request::Retrieve { workload: workload(), seed: content, hop, device: None });
        add(Phase::Verify, hop, Request::Verify { workload: workload() });
        add(Phase::Finish, hop, Request::Finish { workload: workload() });
    }
    add(Phase::Collect, update.hops, Request::KernelLog);
    if let Some(Fault::Kernel { phase, .. }) = plant
        && let Some(place) = steps.iter().position(|step| step.phase == *phase)
    {
        let hop = steps[place].hop;
        steps.insert(place, Step { phase: *phase, hop, request: Request::Panic });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{BootKernel, Part};
    use luqual_model::{CellKey, KernelInfo, Planned};
    use luqual_protocol::find_workload;
    use luqual_vm::{Accel, profile};
    use std::path::PathBuf;

    fn kernel(name: &str) -> BootKernel {
        let info = KernelInfo {
            name: name.into(),
            release: name.into(),
            image_sha256: name.into(),
            command_line: format!("console=ttyS0 of={name}"),
            ..KernelInfo::default()
        };
        BootKernel { info, image: PathBuf::new() }
    }

    /// What is asked of a boot of that workload; or why it cannot be left alone.
    fn asked(workload: &str, plant: Option<&str>) -> Result<Vec<String>, String> {
        let (source, target) = (kernel("old"), kernel("new"));
        let workload = find_workload(workload).unwrap();
        let [a, b, c, d] = ["old", "new", workload.profile, workload.name].map(str::to_owned);
        let key = CellKey { source: a, target: b, profile: c, workload: d };
        let plan = Planned { key, prediction: None, expectation: None };
        let parts = vec![Part { workload, plan: &plan, program: None }];
        let profile = profile::find(workload.profile).unwrap();
        let boot = Boot { source: &source, target: &target, profile, parts };
        let plant = plant.map(|it| it.parse::<Fault>().unwrap());
        if let Some(why) = needs_the_host(&boot, plant.as_ref()) {
            return Err(why);
        }
        let identities: Vec<Identity<'_>> =
            (0..=boot.update().hops).map(|hop| boot.identity(hop, hop.into())).collect();
        let mode = boot.mode(Accel::Tcg, Some(7));
        let steps = script(&boot, 7, plant.as_ref(), &identities, mode);
        let word = |step: Step| {
            let text = serde_json::to_value(&step.request).unwrap();
            format!("{} {} {}", step.hop, step.phase, text["request"].as_str().unwrap())
        };
        Ok(steps.into_iter().map(word).collect())
    }

    #[test]
    fn a_script_has_the_phases_in_order() {
        let plain = [
            "0 handshake hello",
            "0 preserve preserve",
            "0 load load",
            "0 kexec kexec",
            "1 reconnect hello",
            "1 retrieve retrieve",
            "1 verify verify",
            "1 finish finish",
            "1 collect kernel-log",
        ];
        assert_eq!(asked("memfd.basic", None).unwrap(), plain);
        assert_eq!(asked("kexec.loaded-before", None).unwrap()[1..3], ["0 load load", "0 preserve preserve"]);
        let there_and_back = asked("lifecycle.there-and-back", None).unwrap();
        assert_eq!(there_and_back.iter().filter(|it| it.ends_with("kexec kexec")).count(), 2);
        assert_eq!(there_and_back.last().unwrap(), "2 collect kernel-log");
    }

    #[test]
    fn faults_of_the_guests_own_are_planted_and_others_are_not() {
        let with = |fault| asked("memfd.basic", Some(fault));
        assert_eq!(with("flip:64m:3:17").unwrap()[1..3], ["0 preserve preserve", "0 preserve flip"]);
        assert_eq!(with("panic:verify").unwrap()[6..8], ["1 verify panic", "1 verify verify"]);
        for fault in ["kill-agent:verify", "hang:verify", "device:reset"] {
            assert!(
                with(fault).unwrap_err().ends_with("is planted by the host, which is not deterministic"),
                "{fault}"
            );
        }
        assert!(asked("vfio.edu.idle", None).unwrap_err().contains("edu, a live device"));
        assert!(asked("vmm.basic-linux", None).unwrap_err().contains("virtual machines"));
    }
    #[test]
    fn what_the_host_ended_has_no_digest() {
        let late = Stop::Deadline { phase: Phase::Verify, seconds: 2, silent_ms: None };
        // An NMI has it panic.
        assert!(!is_of_its_own(&late, Some(&MachineEnd::Panicked)) && !is_of_its_own(&late, None));
        let failed = Stop::Agent("x".to_owned());
        assert!(is_of_its_own(&failed, Some(&MachineEnd::PoweredOff)) && !is_of_its_own(&failed, None));
        assert!(is_of_its_own(&Stop::Complete, Some(&MachineEnd::PoweredOff)));
        let panicked = MachineEnd::Panicked;
        assert!(is_of_its_own(&Stop::Machine(panicked.clone()), Some(&panicked)));
        assert!(!is_of_its_own(&Stop::Complete, Some(&MachineEnd::Qemu("killed".to_owned()))));
    }
}
