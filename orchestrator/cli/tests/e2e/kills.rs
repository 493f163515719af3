//! luqual and its QEMUs are killed at random moments, and the run is resumed each time.

mod full {
    use crate::common::{assert_nothing_left, events, finished, luqual, machine_ids, text, wait_for_no_machine};
    use luqual_model::{CellId, CellRecord, Event, Outcome, Status};
    use luqual_runner::drawn;
    use rustix::process::{Pid, Signal, kill_process};
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant, SystemTime};

    const KILLS: u64 = 200;

    /// Boots that several cells share and boots of their own, one update and two, a device, a nested VM.
    const WORKLOADS: [&str; 8] = [
        "kexec.cancelled",
        "lifecycle.there-and-back",
        "luo.ioctl-unknown",
        "luo.name-empty",
        "memfd.basic",
        "memfd.seals",
        "vfio.edu.idle",
        "vmm.basic-program",
    ];

    /// The longest time between two kills: about that of a boot.
    const AT_MOST: Duration = Duration::from_secs(12);

    #[test]
    fn a_run_that_is_killed_and_resumed_is_as_one_that_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let output = start(folder.path(), "whole").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let whole = essence(&folder.path().join("whole"));
        let mut kills = Kills { seed: SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs(), done: 0 };
        let mut round = 0;
        while kills.done < KILLS {
            round += 1;
            let name = format!("run-{round}");
            let run = folder.path().join(&name);
            kills.run_through(folder.path(), &name);
            assert_nothing_left(folder.path());
            assert_eq!(essence(&run), whole, "seed {}, round {round}", kills.seed);
            assert_each_ended_once(&run, whole.len());
        }
    }

    fn start(folder: &Path, run: &str) -> Command {
        let mut command = luqual(folder);
        command.args(["run", "--matrix", "quick", "--seed", "7", "--resume-if-exists", "--report-dir", run]);
        command.args(WORKLOADS.iter().flat_map(|name| ["--workload", name]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Who is killed when follows from the seed.
    struct Kills {
        seed: u64,
        done: u64,
    }

    impl Kills {
        /// Runs a run to its end, whatever is killed meanwhile.
        fn run_through(&mut self, folder: &Path, run: &str) {
            let mut child = start(folder, run).spawn().unwrap();
            loop {
                let draw = |what: &str| drawn(self.seed, &format!("{what} {}", self.done));
                let pause = AT_MOST.mul_f64(draw("pause") as f64 / u64::MAX as f64);
                if self.done < KILLS && !ends_within(&mut child, pause) {
                    let machines = machine_ids(folder);
                    let number = draw("victim") as usize % (2 * machines.len().max(1));
                    self.done += 1;
                    match machines.get(number) {
                        Some(machine) => kill(*machine),
                        None => {
                            child.kill().unwrap();
                            child.wait().unwrap();
                            wait_for_no_machine(folder);
                            child = start(folder, run).spawn().unwrap();
                        }
                    }
                    continue;
                }
                let output = child.wait_with_output().unwrap();
                match output.status.code() {
                    Some(0) => return,
                    // The harness failed: a QEMU was killed.
                    Some(3) => child = start(folder, run).spawn().unwrap(),
                    _ => panic!("seed {}, kill {}: {}", self.seed, self.done, text(&output)),
                }
            }
        }
    }

    fn ends_within(child: &mut Child, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if child.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// It may have ended meanwhile.
    fn kill(machine: i32) {
        let _ = kill_process(Pid::from_raw(machine).unwrap(), Signal::KILL);
    }

    /// What of a cell does not depend on time.
    type Essence = (CellId, Outcome, Status, String, Vec<String>, Vec<(String, bool)>, usize);

    fn essence(run: &Path) -> Vec<Essence> {
        let of = |cell: CellRecord| {
            let probes = cell.probes.into_iter().map(|probe| (probe.name, probe.passed)).collect();
            (cell.id, cell.outcome, cell.status, cell.title, cell.tainted, probes, cell.attempts.len())
        };
        finished(run).cells.into_iter().map(of).collect()
    }

    /// Each cell has one end in the journal that counts.
    fn assert_each_ended_once(run: &Path, cells: usize) {
        let mut ended = BTreeSet::new();
        for event in events(run) {
            match event {
                Event::CellFinished { record } => assert!(ended.insert(record.id.clone()), "{} ended twice", record.id),
                Event::RunResumed { again, .. } => again.iter().for_each(|cell| assert!(ended.remove(cell), "{cell}")),
                _ => {}
            }
        }
        assert_eq!(ended.len(), cells);
    }
}
