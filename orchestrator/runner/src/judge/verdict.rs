//! Decides the outcome from the evidence. Pure. This is the most important module: a false `survived` is the worst
//! bug that luqual can have.

use super::evidence::{Evidence, Link, Stop};
use super::owed::mismatch;
use luqual_model::bounds::{TITLE, cut};
use luqual_model::{
    ARCH, Finding, FindingKind, Outcome, Phase, Probe, ProbeKind, Refusal, Side, crash_signature, kernel_after,
    signature,
};
use luqual_vm::{MachineEnd, fault_behind_boot_hang, fault_behind_line};

/// The verdict on a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// The reason, in one line; empty for an untainted survival.
    pub title: String,
    /// The call that a kernel refused.
    pub refusal: Option<Refusal>,
    /// The side of the kernel that refused or crashed.
    pub side: Option<Side>,
    /// The phase that decided the outcome.
    pub phase: Phase,
    /// The lines and flags that taint the cell.
    pub tainted: Vec<String>,
}

/// Judges the evidence. The rules are in the order of their reliability: first failures of the harness, then the
/// kernels' own crash lines, then refusals, then probes.
pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    let (outcome, title) = outcome(evidence);
    // Whatever the outcome, a warning or a taint of any kernel counts.
    let tainted = taints(evidence, outcome == Outcome::Survived);
    let title = if outcome == Outcome::Survived {
        tainted.first().map(|line| signature(line)).unwrap_or_default()
    } else {
        title
    };
    let refused = match &evidence.stop {
        Stop::Refused { refused, side, .. } if outcome.is_conclusive() && outcome != Outcome::Crashed => {
            Some((refused.clone(), *side))
        }
        _ => None,
    };
    // A machine can end without a line of its kernel.
    let crashed = || crash_line(evidence).map_or(evidence.side, |line| line.side);
    let side = refused.as_ref().map(|(_, side)| *side).or_else(|| (outcome == Outcome::Crashed).then(crashed));
    // The first failed probe decides a loss, though the boot continued; any other end comes where it comes.
    let phase = match outcome {
        Outcome::Lost | Outcome::Incompatible => evidence.first_failed.unwrap_or(evidence.phase),
        _ => evidence.phase,
    };
    let title = cut(&title, TITLE);
    Verdict { outcome, title, refusal: refused.map(|(refused, _)| refused), side, phase, tainted }
}

/// The outcome, and the reason in one line.
fn outcome(evidence: &Evidence) -> (Outcome, String) {
    match &evidence.stop {
        // A requirement that is missing because the kernel crashed is a crash.
        Stop::Requirement(what) => death(evidence).unwrap_or_else(|| say(Outcome::Skipped, what)),
        Stop::Lacks { what, side } => death(evidence).unwrap_or_else(|| lacks(evidence, what, *side)),
        Stop::Interrupted | Stop::SessionClosed => say(Outcome::HarnessFailed, evidence.stop.in_words()),
        Stop::Host(why) | Stop::Machine(MachineEnd::Qemu(why)) => say(Outcome::HarnessFailed, why),
        Stop::WrongKernel(who) => death(evidence).unwrap_or_else(|| say(Outcome::HarnessFailed, who)),
        Stop::Agent(why) => death(evidence).unwrap_or_else(|| say(Outcome::HarnessFailed, why)),
        Stop::Machine(MachineEnd::Panicked | MachineEnd::Reset | MachineEnd::PoweredOff) => {
            let without_a_line =
                || say(Outcome::Crashed, format!("{}, and its console has no line about it", evidence.stop.in_words()));
            death(evidence).unwrap_or_else(without_a_line)
        }
        Stop::Deadline { phase, seconds, silent_ms, link, .. } => {
            death(evidence).unwrap_or_else(|| late(evidence, (*phase, *seconds), *silent_ms, link.as_ref()))
        }
        Stop::Refused { refused, side, intact } => death(evidence).unwrap_or_else(|| match (side, intact) {
            // A source that had lost something before has not just refused.
            (Side::Source, Ok(())) => failed_probe(evidence).map_or_else(
                || say(Outcome::Refused, refused),
                |(lost, why)| say(lost, format!("{why}; then {refused}")),
            ),
            (Side::Source, Err(what)) => {
                say(Outcome::Lost, format!("{refused}; then the source had lost state: {what}"))
            }
            (Side::Target, _) => refused_by_target(evidence, refused),
        }),
        Stop::Complete => death(evidence).unwrap_or_else(|| checked(evidence)),
    }
}

fn say(outcome: Outcome, title: impl ToString) -> (Outcome, String) {
    (outcome, title.to_string())
}

/// The outcome if a kernel lacks something after something was preserved: a target that cannot use what it was given
/// has lost it. A source that lacks something has to be asked before.
fn lacks(evidence: &Evidence, what: &str, side: Side) -> (Outcome, String) {
    if side == Side::Source {
        return say(Outcome::HarnessFailed, format!("the workload asked too late for what the source lacks: {what}"));
    }
    refused_as_a_whole(evidence).or_else(|| failed_probe(evidence)).unwrap_or_else(|| {
        say(Outcome::Lost, format!("the target lacks what is needed for what was preserved: {what}"))
    })
}

fn refused_by_target(evidence: &Evidence, refused: &Refusal) -> (Outcome, String) {
    if got_something(evidence) {
        return say(Outcome::Lost, format!("{refused}, after some of it was retrieved"));
    }
    if let Some(refused) = refused_as_a_whole(evidence) {
        return refused;
    }
    // A target without the device has accepted the handover, but cannot give it out.
    if refused.call == "open" && refused.errno == "ENOENT" {
        let words = first_of(evidence, FindingKind::Error)
            .or_else(|| first_of(evidence, FindingKind::Luo))
            .or_else(|| first_of(evidence, FindingKind::Kho))
            .map_or_else(String::new, |line| format!("; its console: {}", line.text));
        return say(Outcome::Lost, format!("the target has no {}{words}", refused.about));
    }
    say(Outcome::Incompatible, refused)
}

/// The outcome if the target ran to the end of the cell: by the probes.
fn checked(evidence: &Evidence) -> (Outcome, String) {
    let Some(lost) = failed_probe(evidence) else {
        if evidence.probes.is_empty() {
            return say(Outcome::HarnessFailed, "the workload has no probes");
        }
        if let Some(control) = evidence.probes.iter().find(|probe| !probe.passed) {
            let unseen = "a control that was not seen says nothing of a kernel; run it again, with fewer machines at \
                          once (--jobs)";
            return say(Outcome::HarnessFailed, format!("{}: {unseen}", in_words(control)));
        }
        let mismatch = evidence.owed.as_ref().and_then(|owed| mismatch(owed, &evidence.probes));
        if let Some(mismatch) = mismatch {
            return say(Outcome::HarnessFailed, format!("the guest did not tell what the workload owes: {mismatch}"));
        }
        return say(Outcome::Survived, "");
    };
    refused_as_a_whole(evidence).unwrap_or(lost)
}

/// The outcome from the first failed probe that shows a loss. Clocks that differ say nothing of a kernel if the emulator
/// made one of them wrong.
fn failed_probe(evidence: &Evidence) -> Option<(Outcome, String)> {
    let lost = || evidence.probes.iter().filter(|probe| probe.shows_a_loss());
    let line = evidence.findings.iter().find(|line| line.kind == FindingKind::Clock);
    let fault = line.and_then(|line| Some((line, fault_behind_line(&evidence.emulation, line)?)));
    let is_excused = |probe: &&Probe| fault.is_some() && probe.compares_clocks();
    if let Some(failed) = lost().find(|probe| !is_excused(probe)) {
        return Some(say(Outcome::Lost, in_words(failed)));
    }
    let (failed, (line, fault)) = (lost().next()?, fault?);
    Some(say(Outcome::HarnessFailed, format!("{fault}; the line: {}; {}", line.text, in_words(failed))))
}

fn in_words(Probe { name, expected, observed, .. }: &Probe) -> String {
    format!("{name}: expected {expected}, observed {observed}")
}

/// The outcome if the target's log says that it refused the handover, and nothing was given out.
fn refused_as_a_whole(evidence: &Evidence) -> Option<(Outcome, String)> {
    let line = first_of(evidence, FindingKind::HandoverRefused).filter(|_| !got_something(evidence))?;
    Some(say(Outcome::Incompatible, signature(&line.text)))
}

/// Whether the target gave out any preserved state.
fn got_something(evidence: &Evidence) -> bool {
    evidence.probes.iter().any(|probe| probe.passed && probe.kind() == ProbeKind::Retrieve)
}

/// Whether a line says that a kernel crashed. A stall that the kernel recovered from is not a crash.
fn is_deadly(evidence: &Evidence, finding: &Finding) -> bool {
    match finding.kind {
        FindingKind::Stall | FindingKind::HungTask => evidence.stop != Stop::Complete,
        FindingKind::Panic if is_answer_to_nmi(finding) => !matches!(evidence.stop, Stop::Deadline { .. }),
        kind => kind.is_crash(),
    }
}

/// The outcome from a crash line of a kernel.
fn death(evidence: &Evidence) -> Option<(Outcome, String)> {
    let line = crash_line(evidence)?;
    if let Some(fault) = fault_behind_line(&evidence.emulation, line) {
        return Some(say(Outcome::HarnessFailed, format!("{fault}; the line: {}", line.text)));
    }
    if is_agents_death(line) {
        return Some(say(Outcome::HarnessFailed, format!("the agent's /init ended: {}", line.text)));
    }
    Some(say(Outcome::Crashed, crash_signature(line)))
}

/// Where the first line is that says that a kernel crashed.
fn crash_at(evidence: &Evidence) -> Option<usize> {
    evidence.findings.iter().position(|finding| is_deadly(evidence, finding))
}

/// The line of the crash. An oops or a BUG comes before the panic that it leads to; the first line is the cause. With
/// panic_on_warn each panic says the same: the warning is the cause (kernel/panic.c, check_panic_on_warn()).
fn crash_line(evidence: &Evidence) -> Option<&Finding> {
    let at = crash_at(evidence)?;
    let line = &evidence.findings[at];
    let warning = || evidence.findings[..at].iter().rfind(|it| it.kind == FindingKind::Warning && it.hop == line.hop);
    Some(line).filter(|line| !line.text.contains("panic_on_warn set")).or_else(warning).or(Some(line))
}

/// Whether the panic is only due to the end of process 1, which is the agent. After an update, an agent that a kernel
/// killed since its memory was wrong is the kernel's failure until somebody shows otherwise.
fn is_agents_death(finding: &Finding) -> bool {
    let is_of_init = finding.kind == FindingKind::Panic && finding.text.contains("Attempted to kill init");
    is_of_init && !(finding.side == Side::Target && is_killed_by_memory(&finding.text))
}

/// Whether process 1 was ended by SIGILL, SIGBUS or SIGSEGV (kernel/exit.c, do_exit(): "exitcode=0x%08x", as wait(2)
/// has it).
fn is_killed_by_memory(line: &str) -> bool {
    const SIGNALS: [u32; 3] = [4, 7, 11];
    let code = line.split_once("exitcode=0x").map(|(_, code)| code.trim_end());
    let code = code.and_then(|code| u32::from_str_radix(code.get(..8).unwrap_or(code), 16).ok());
    code.is_some_and(|code| SIGNALS.contains(&(code & 0x7f)))
}

/// Whether the panic answers luqual's NMI, which was sent since the kernel or its agent was late. It shows where the
/// kernel was, not that it crashed.
fn is_answer_to_nmi(finding: &Finding) -> bool {
    finding.text.contains(ARCH.hang.answer)
}

/// The first finding of that kind from the target.
fn first_of(evidence: &Evidence, kind: FindingKind) -> Option<&Finding> {
    evidence.findings.iter().find(|finding| finding.kind == kind && finding.side == Side::Target)
}

/// The verdict after a deadline. If the guest ticks, its agent did not answer, and nothing is said about the kernel.
/// The same is true if the agent listens but the connection failed.
fn late(
    evidence: &Evidence,
    (phase, seconds): (Phase, u64),
    silent_ms: Option<u64>,
    link: Option<&Link>,
) -> (Outcome, String) {
    if let Some(withheld) = evidence.stop.not_let_run() {
        let why = format!("the host did not let the machine run: {withheld}; the deadline of {phase} is {seconds} s");
        return say(Outcome::HarnessFailed, why);
    }
    let (outcome, why) = match (silent_ms, link) {
        (Some(silent), _) if silent < LIVES_MS => {
            (Outcome::HarnessFailed, "the guest runs, but its agent did not answer".to_owned())
        }
        (Some(_), _) => (Outcome::Crashed, "hang: the ticks stopped".to_owned()),
        (None, Some(Link { listened: true, error })) => {
            let error = error.as_deref().unwrap_or("no connection was answered");
            (Outcome::HarnessFailed, format!("the agent listens, but the host could not connect: {error}"))
        }
        (None, _) if matches!(phase, Phase::Boot | Phase::Reconnect) => {
            match fault_behind_boot_hang(&evidence.emulation) {
                Some(fault) => (Outcome::HarnessFailed, format!("the agent never answered; {fault}")),
                None => (Outcome::Crashed, "hang: the agent never answered".to_owned()),
            }
        }
        // The guest answered before, and its ticks are not watched, as in a boot without a connection. If the fault
        // cannot be assigned to the agent, the verdict is a crash of the kernel.
        (None, _) => {
            let why = "no answer; without ticks, a kernel that hangs cannot be told from an agent that is late";
            (Outcome::Crashed, why.to_owned())
        }
    };
    say(outcome, format!("{why}; the deadline of {phase} is {seconds} s"))
}

/// A guest whose last tick is at most this old is alive: a thousand tick periods, more than the stalls of a busy
/// host.
const LIVES_MS: u64 = 1000;

/// The lines and flags that taint the cell.
fn taints(evidence: &Evidence, survived: bool) -> Vec<String> {
    // What led to a crash, or came of it, is the crash.
    let before = &evidence.findings[..crash_at(evidence).unwrap_or(evidence.findings.len())];
    let is_provoked = |finding: &Finding| evidence.provoked.iter().any(|part| finding.text.contains(part));
    // Nor is the answer to luqual's own NMI a line of the kernel's.
    let is_asked_for = |finding: &Finding| is_answer_to_nmi(finding) && matches!(evidence.stop, Stop::Deadline { .. });
    let lines = before
        .iter()
        .filter(|finding| !is_asked_for(finding))
        .filter(|finding| finding.kind.taints() || survived && finding.kind.taints_survival() && !is_provoked(finding))
        .map(|finding| format!("{}: {}", finding.kernel(), finding.text));
    // The kernel marks itself after an oops, also after one that is the emulator's.
    let emulators = crash_line(evidence).filter(|line| fault_behind_line(&evidence.emulation, line).is_some());
    let own =
        |hop: u32, taint: u64| if emulators.is_some_and(|line| line.hop == hop) { taint & !TAINT_DIE } else { taint };
    let flags = (0_u32..)
        .zip(&evidence.taints)
        .map(|(hop, taint)| (hop, own(hop, *taint)))
        .filter(|(_, taint)| *taint != 0)
        .map(|(hop, taint)| format!("{}: taint {taint} ({})", kernel_after(hop), taint_letters(taint)));
    lines.chain(flags).collect()
}

/// The flag of a kernel that had an oops (include/linux/panic.h).
const TAINT_DIE: u64 = 1 << 7;

/// The letters of Documentation/admin-guide/tainted-kernels.rst, bit 0 first.
fn taint_letters(taint: u64) -> String {
    const LETTERS: &str = "PFSRMBUDAWCIOELKXTNJ";
    (0..u64::BITS)
        .filter(|bit| taint >> bit & 1 == 1)
        .map(|bit| LETTERS.chars().nth(bit as usize).unwrap_or('?'))
        .collect()
}

#[cfg(test)]
mod tests;
