//! Decides the outcome from the evidence. Pure. This is the most important module: a false `survived` is the worst
//! bug that luqual can have.

use super::evidence::{Evidence, Link, Stop};
use super::signature::signature;
use luqual_model::{Finding, FindingKind, Outcome, Phase, ProbeKind, Refusal, Side};
use luqual_vm::MachineEnd;

/// The verdict on a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// The reason, in one line; empty for an untainted survival.
    pub title: String,
    /// The lines and flags that taint the cell.
    pub tainted: Vec<String>,
}

/// Judges the evidence. The rules are in the order of their reliability: first failures of the harness, then the
/// kernels' own crash lines, then refusals, then probes.
pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    match &evidence.stop {
        // A requirement that is missing because the kernel crashed is a crash.
        Stop::Requirement(what) => death(evidence).unwrap_or_else(|| say(Outcome::Skipped, what)),
        Stop::Interrupted | Stop::SessionClosed => say(Outcome::HarnessFailed, evidence.stop.in_words()),
        Stop::Host(why) | Stop::Machine(MachineEnd::Qemu(why)) => say(Outcome::HarnessFailed, why),
        Stop::WrongKernel(who) => death(evidence).unwrap_or_else(|| say(Outcome::HarnessFailed, who)),
        Stop::Agent(why) => death(evidence).unwrap_or_else(|| say(Outcome::HarnessFailed, why)),
        Stop::Machine(MachineEnd::Panicked | MachineEnd::Reset | MachineEnd::PoweredOff) => {
            let without_a_line =
                || say(Outcome::Crashed, format!("{}, and its console has no line about it", evidence.stop.in_words()));
            death(evidence).unwrap_or_else(without_a_line)
        }
        Stop::Deadline { phase, seconds, silent_ms, link } => {
            death(evidence).unwrap_or_else(|| late(*phase, *seconds, *silent_ms, link.as_ref()))
        }
        Stop::Refused { refused, side, intact } => death(evidence).unwrap_or_else(|| match (side, intact) {
            (Side::Source, Ok(())) => say(Outcome::Refused, refused),
            (Side::Source, Err(what)) => {
                say(Outcome::Lost, format!("{refused}; then the source had lost state: {what}"))
            }
            (Side::Target, _) => refused_by_target(evidence, refused),
        }),
        Stop::Complete => death(evidence).unwrap_or_else(|| checked(evidence)),
    }
}

fn say(outcome: Outcome, title: impl ToString) -> Verdict {
    Verdict { outcome, title: title.to_string(), tainted: Vec::new() }
}

fn refused_by_target(evidence: &Evidence, refused: &Refusal) -> Verdict {
    if got_something(evidence) {
        return say(Outcome::Lost, format!("{refused}, after some of it was retrieved"));
    }
    if let Some(line) = first_of(evidence, FindingKind::HandoverRefused) {
        return say(Outcome::Incompatible, signature(&line.text));
    }
    // A target without the device has accepted the handover, but cannot give it out.
    if refused.call == "open" && refused.errno == "ENOENT" {
        let words = first_of(evidence, FindingKind::Luo)
            .or_else(|| first_of(evidence, FindingKind::Kho))
            .map_or_else(String::new, |line| format!("; its console: {}", line.text));
        return say(Outcome::Lost, format!("the target has no {}{words}", refused.about));
    }
    say(Outcome::Incompatible, refused)
}

/// The verdict if the target ran to the end of the cell: by the probes.
fn checked(evidence: &Evidence) -> Verdict {
    let Some(failed) = evidence.probes.iter().find(|probe| !probe.passed) else {
        if evidence.probes.is_empty() {
            return say(Outcome::HarnessFailed, "the workload has no probes");
        }
        let tainted = taints(evidence);
        let title = tainted.first().map(|line| signature(line)).unwrap_or_default();
        return Verdict { outcome: Outcome::Survived, title, tainted };
    };
    if let (Some(line), false) = (first_of(evidence, FindingKind::HandoverRefused), got_something(evidence)) {
        return say(Outcome::Incompatible, signature(&line.text));
    }
    say(Outcome::Lost, format!("{}: expected {}, observed {}", failed.name, failed.expected, failed.observed))
}

/// Whether the target gave out any preserved state.
fn got_something(evidence: &Evidence) -> bool {
    evidence.probes.iter().any(|probe| probe.passed && probe.kind() == ProbeKind::Retrieve)
}

/// The verdict from a crash line of a kernel. A stall that the kernel recovered from is not a crash.
fn death(evidence: &Evidence) -> Option<Verdict> {
    let ended_well = evidence.stop == Stop::Complete;
    let asked = matches!(evidence.stop, Stop::Deadline { .. });
    let deadly = |finding: &&Finding| match finding.kind {
        FindingKind::Stall | FindingKind::HungTask => !ended_well,
        FindingKind::Panic if asked && is_answer_to_nmi(finding) => false,
        kind => kind.is_crash(),
    };
    // An oops or a BUG comes before the panic that it leads to; the first line is the cause.
    evidence.findings.iter().find(deadly).map(|line| {
        if is_agents_death(line) {
            return say(Outcome::HarnessFailed, format!("the agent's /init ended: {}", line.text));
        }
        say(Outcome::Crashed, signature(&line.text))
    })
}

/// Whether the panic is only due to the end of process 1, which is the agent.
fn is_agents_death(finding: &Finding) -> bool {
    finding.kind == FindingKind::Panic && finding.text.contains("Attempted to kill init")
}

/// Whether the panic answers luqual's NMI, which was sent since the kernel or its agent was late
/// (arch/x86/kernel/nmi.c, unknown_nmi_error). It shows where the kernel was, not that it crashed.
fn is_answer_to_nmi(finding: &Finding) -> bool {
    finding.text.contains("NMI: Not continuing")
}

/// The first finding of that kind from the target.
fn first_of(evidence: &Evidence, kind: FindingKind) -> Option<&Finding> {
    evidence.findings.iter().find(|finding| finding.kind == kind && finding.side == Side::Target)
}

/// The verdict after a deadline. If the guest ticks, its agent did not answer, and nothing is said about the kernel.
/// The same is true if the agent listens but the connection failed.
fn late(phase: Phase, seconds: u64, silent_ms: Option<u64>, link: Option<&Link>) -> Verdict {
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
            (Outcome::Crashed, "hang: the agent never answered".to_owned())
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

fn taints(evidence: &Evidence) -> Vec<String> {
    let lines = evidence
        .findings
        .iter()
        .filter(|finding| finding.kind.taints())
        .map(|finding| format!("{}: {}", finding.side, finding.text));
    let flags = [(Side::Source, evidence.source_taint), (Side::Target, evidence.target_taint)]
        .into_iter()
        .filter(|(_, taint)| *taint != 0)
        .map(|(side, taint)| format!("{side}: taint {taint} ({})", taint_letters(taint)));
    lines.chain(flags).collect()
}

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
