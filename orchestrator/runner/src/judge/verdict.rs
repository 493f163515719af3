//! From evidence to outcome. Pure, and the heart of the tool: a false `survived` is the worst bug it can have.

use super::evidence::{Evidence, Link, Stop};
use super::signature::signature;
use luqual_model::{Finding, FindingKind, Outcome, Phase, ProbeKind, Refusal, Side};
use luqual_vm::MachineEnd;

/// What is said of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in one line; empty for an untainted survival.
    pub title: String,
    /// What taints the cell.
    pub tainted: Vec<String>,
}

/// Judges. The order of the rules is the order of what can be trusted: first what says that nothing can be claimed, then
/// what a kernel said of its own death, then what was refused, and only then what was checked.
pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    match &evidence.stop {
        // What a kernel lacks because it crashed is no requirement.
        Stop::Requirement(what) => death(evidence).unwrap_or_else(|| say(Outcome::Skipped, what)),
        Stop::Interrupted | Stop::SessionClosed => say(Outcome::HarnessFailed, evidence.stop.in_words()),
        Stop::Host(why) | Stop::Machine(MachineEnd::Qemu(why)) => say(Outcome::HarnessFailed, why),
        Stop::WrongKernel(who) => death(evidence).unwrap_or_else(|| say(Outcome::HarnessFailed, who)),
        Stop::Agent(why) => death(evidence).unwrap_or_else(|| say(Outcome::HarnessFailed, why)),
        Stop::Machine(MachineEnd::Panicked | MachineEnd::Reset | MachineEnd::PoweredOff) => {
            let without_a_line = || say(Outcome::Crashed, format!("{}, with no word of it", evidence.stop.in_words()));
            death(evidence).unwrap_or_else(without_a_line)
        }
        Stop::Deadline { phase, seconds, silent_ms, link } => {
            death(evidence).unwrap_or_else(|| late(*phase, *seconds, *silent_ms, link.as_ref()))
        }
        Stop::Refused { refused, side, intact } => death(evidence).unwrap_or_else(|| match (side, intact) {
            (Side::Source, Ok(())) => say(Outcome::Refused, refused),
            (Side::Source, Err(what)) => {
                say(Outcome::Lost, format!("{refused}; and after it the source had not kept: {what}"))
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
    // No device is no answer from it: the target took the handover and has nobody to give it out.
    if refused.call == "open" && refused.errno == "ENOENT" {
        let words = first_of(evidence, FindingKind::Luo)
            .or_else(|| first_of(evidence, FindingKind::Kho))
            .map_or_else(String::new, |line| format!("; its console: {}", line.text));
        return say(Outcome::Lost, format!("the target has no {}{words}", refused.about));
    }
    say(Outcome::Incompatible, refused)
}

/// The target ran to the end of the cell: what do the probes say?
fn checked(evidence: &Evidence) -> Verdict {
    let Some(failed) = evidence.probes.iter().find(|probe| !probe.passed) else {
        if evidence.probes.is_empty() {
            return say(Outcome::HarnessFailed, "the workload checked nothing");
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

/// Whether the target gave out anything of what it was handed.
fn got_something(evidence: &Evidence) -> bool {
    evidence.probes.iter().any(|probe| probe.passed && probe.kind() == ProbeKind::Retrieve)
}

/// What a kernel said of its own death. A stall that it came out of is not one.
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

/// The end of process 1 panics a kernel that did nothing wrong.
fn is_agents_death(finding: &Finding) -> bool {
    finding.kind == FindingKind::Panic && finding.text.contains("Attempted to kill init")
}

/// The panic by which a kernel answers the NMI that it was sent because it, or its agent, was late
/// (arch/x86/kernel/nmi.c, unknown_nmi_error): that it came tells where the kernel was, not that it crashed.
fn is_answer_to_nmi(finding: &Finding) -> bool {
    finding.text.contains("NMI: Not continuing")
}

/// The first line of that kind from the target.
fn first_of(evidence: &Evidence, kind: FindingKind) -> Option<&Finding> {
    evidence.findings.iter().find(|finding| finding.kind == kind && finding.side == Side::Target)
}

/// A guest that ticks lives: then it is the agent that did not answer, and nothing is said about the kernel. Nor is anything said of a
/// kernel whose agent said that it listens: it came so far, and it is the connection that failed.
fn late(phase: Phase, seconds: u64, silent_ms: Option<u64>, link: Option<&Link>) -> Verdict {
    let (outcome, why) = match (silent_ms, link) {
        (Some(silent), _) if silent < LIVES_MS => {
            (Outcome::HarnessFailed, "the guest lives and its agent did not answer".to_owned())
        }
        (Some(_), _) => (Outcome::Crashed, "hang: no ticks any more".to_owned()),
        (None, Some(Link { listened: true, error })) => {
            let error = error.as_deref().unwrap_or("no connection was answered");
            (Outcome::HarnessFailed, format!("the agent said that it listens, and the host did not reach it: {error}"))
        }
        (None, _) if matches!(phase, Phase::Boot | Phase::Reconnect) => {
            (Outcome::Crashed, "hang: the agent was never heard".to_owned())
        }
        // It was heard before, and nobody watches its ticks, as in a boot that nobody talks to. What cannot be told to be the agent's
        // fault is held against the kernel.
        (None, _) => {
            let why = "no answer, and no ticks to tell a kernel that hangs from an agent that is late";
            (Outcome::Crashed, why.to_owned())
        }
    };
    say(outcome, format!("{why}; {phase} was given {seconds} s"))
}

/// A guest that ticked this recently is alive: a thousand tick periods, and more than any stall of a busy host that
/// would not be called one.
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
