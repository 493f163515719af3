use crate::{Outcome, Phase, Probe, Refusal, Side, matches};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a cell is known to do. A cell has to end as all that is given here says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// The outcome.
    pub outcome: Outcome,
    /// A glob over the call that a kernel refused, such as `ioctl LIVEUPDATE_SESSION_PRESERVE_FD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The name of the errno with which it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// A glob over the title: the signature of a crash, the line by which a target refused the handover, or why
    /// something is lost without a failed probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The side of the kernel that refused or crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The phase that decides the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Globs over what taints the cell. If there is none, the cell is not tainted.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "names_or_any")]
    pub tainted: Vec<String>,
    /// For `lost`: globs over the names of the probes that fail. If there is none, any probe may fail.
    #[serde(rename = "broken", default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Globs over the names of the probes that pass in one run and fail in another. Both are as expected.
    #[serde(rename = "unsteady", default, skip_serializing_if = "Vec::is_empty")]
    pub unstable: Vec<String>,
    /// The reason.
    pub reason: String,
    /// A link to more information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// How a cell ended, as far as an expectation can say.
#[derive(Clone, Debug)]
pub struct End<'a> {
    /// The outcome.
    pub outcome: Outcome,
    /// What taints the cell.
    pub tainted: &'a [String],
    /// The names of its probes.
    pub probes: ProbeNames<'a>,
    /// The title.
    pub title: &'a str,
    /// The call that a kernel refused.
    pub refusal: Option<&'a Refusal>,
    /// The side of the kernel that refused or crashed.
    pub side: Option<Side>,
    /// The phase that decided the outcome.
    pub phase: Phase,
}

impl<'a> End<'a> {
    /// An end in verify, by its outcome and what tainted it. For generated records and tests.
    pub fn of(outcome: Outcome, tainted: &'a [String]) -> Self {
        let (probes, phase) = (ProbeNames::default(), Phase::Verify);
        Self { outcome, tainted, probes, title: "", refusal: None, side: None, phase }
    }
}

/// The names of the probes of a cell, by result.
#[derive(Clone, Debug, Default)]
pub struct ProbeNames<'a> {
    /// The failed probes.
    pub failed: Vec<&'a str>,
    /// The passed probes.
    pub passed: Vec<&'a str>,
}

impl<'a> ProbeNames<'a> {
    /// Sorts these probes by result.
    pub fn of(probes: &'a [Probe]) -> Self {
        let names = |passed| probes.iter().filter(|it| it.passed == passed).map(|it| it.name.as_str()).collect();
        Self { failed: names(false), passed: names(true) }
    }
}

/// How the failed probes of a cell differ from those of its expectation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeMismatch<'a> {
    /// The failed probes that no glob matches, each once.
    pub also_failed: Vec<&'a str>,
    /// The globs that match no failed probe.
    pub did_not_fail: Vec<&'a str>,
}

impl fmt::Display for ProbeMismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("also failed", &self.also_failed), ("did not fail", &self.did_not_fail)];
        let told = parts.iter().filter(|(_, names)| !names.is_empty());
        let told: Vec<String> = told.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect();
        f.write_str(&told.join("; "))
    }
}

/// Reads the globs of an expectation; `true`, as journals of earlier versions have it, is any line.
fn names_or_any<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tainted {
        Any(bool),
        Names(Vec<String>),
    }
    Ok(match Tainted::deserialize(from)? {
        Tainted::Any(any) => any.then(|| "*".to_owned()).into_iter().collect(),
        Tainted::Names(names) => names,
    })
}

impl Expectation {
    /// How the failed probes differ from the expected ones. They do not differ if the expectation names none.
    pub fn probe_mismatch<'a>(&'a self, failed: &[&'a str]) -> ProbeMismatch<'a> {
        let mut other = ProbeMismatch::default();
        if self.failed.is_empty() {
            return other;
        }
        for name in failed {
            let is_known = self.failed.iter().chain(&self.unstable).any(|glob| matches(glob, name));
            if !is_known && !other.also_failed.contains(name) {
                other.also_failed.push(name);
            }
        }
        let takes_none = |glob: &&str| !failed.iter().any(|name| matches(glob, name));
        other.did_not_fail = self.failed.iter().map(String::as_str).filter(takes_none).collect();
        other
    }

    /// The expectation of an outcome alone, which any cell with that outcome meets.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            call: None,
            errno: None,
            signature: None,
            side: None,
            phase: None,
            tainted: Vec::new(),
            failed: Vec::new(),
            unstable: Vec::new(),
            reason: String::new(),
            link: None,
        }
    }

    /// The keys that the expectation lacks, by which an end of its outcome is known from any other: of a loss the
    /// probes or the refused call, of a refusal the call and its errno, of a crash its signature, side and phase.
    pub fn unnamed(&self) -> Vec<&'static str> {
        let lacking = |keys: &[(&'static str, bool)]| -> Vec<&'static str> {
            keys.iter().filter(|(_, is_there)| !is_there).map(|(key, _)| *key).collect()
        };
        let call = [("call", self.call.is_some()), ("errno", self.errno.is_some())];
        let is_refusal = self.call.is_some() || self.errno.is_some();
        match self.outcome {
            Outcome::Lost if self.signature.is_some() => Vec::new(),
            Outcome::Lost if !is_refusal => lacking(&[("failed", !self.failed.is_empty())]),
            Outcome::Incompatible if !is_refusal => lacking(&[("signature", self.signature.is_some())]),
            Outcome::Lost | Outcome::Incompatible | Outcome::Refused => lacking(&call),
            Outcome::Crashed => lacking(&[
                ("signature", self.signature.is_some()),
                ("side", self.side.is_some()),
                ("phase", self.phase.is_some()),
            ]),
            Outcome::Survived | Outcome::Skipped | Outcome::HarnessFailed => Vec::new(),
        }
    }

    /// What taints a cell beside what is expected: the first line that no glob matches.
    fn unknown_taint<'a>(&self, tainted: &'a [String]) -> Option<&'a String> {
        tainted.iter().find(|line| !self.tainted.iter().any(|glob| matches(glob, line)))
    }

    /// The first glob that matches nothing of what taints a cell.
    pub(crate) fn absent_taint(&self, tainted: &[String]) -> Option<&String> {
        self.tainted.iter().find(|glob| !tainted.iter().any(|line| matches(glob, line)))
    }

    /// What of the end is not as expected, of taints, refusals and crashes: the key, what it says, and what was seen.
    pub fn end_mismatch(&self, end: &End<'_>) -> Option<String> {
        let other = |key: &str, expected: &str, seen: &str| {
            let seen = if seen.is_empty() { "none" } else { seen };
            (!matches(expected, seen)).then(|| format!("{key}: expected {expected}, was {seen}"))
        };
        let refusal = |part: fn(&Refusal) -> &String| end.refusal.map_or("", |refusal| part(refusal).as_str());
        let side = end.side.map(|side| side.to_string()).unwrap_or_default();
        let phase = end.phase.to_string();
        let call = self.call.as_deref().and_then(|call| other("call", call, refusal(|it| &it.call)));
        let errno = self.errno.as_deref().and_then(|errno| other("errno", errno, refusal(|it| &it.errno)));
        let signature = self.signature.as_deref().and_then(|glob| other("signature", glob, end.title));
        let of_side = self.side.and_then(|expected| other("side", &expected.to_string(), &side));
        let of_phase = self.phase.and_then(|expected| other("phase", &expected.to_string(), &phase));
        let taint = || self.unknown_taint(end.tainted).map(|line| format!("tainted: {line}, which is not expected"));
        call.or(errno).or(signature).or(of_side).or(of_phase).or_else(taint)
    }
}
