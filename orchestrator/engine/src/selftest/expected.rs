//! What has to come of a fault, and how what came is compared with it. Pure.

use luqual_model::{CellRecord, Outcome, matches};
use std::collections::BTreeSet;

/// What has to come of a fault: all of it, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The outcome of the cell; `None` if the run is refused before a cell ends.
    pub outcome: Option<Outcome>,
    /// The names of the probes that fail.
    pub probes: &'static [&'static str],
    /// Globs over the lines and flags that taint the cell. Each matches one, and none is left over.
    pub tainted: &'static [&'static str],
    /// A glob over the title, or over the message of a run that is refused.
    pub title: &'static str,
}

impl Expected {
    const fn of(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), probes: &[], tainted: &[], title: "*" }
    }

    /// Lost, by exactly these probes.
    pub(super) const fn lost(probes: &'static [&'static str]) -> Self {
        Self { probes, ..Self::of(Outcome::Lost) }
    }

    /// Everything survives, and exactly these lines and flags taint it.
    pub(super) const fn tainted(tainted: &'static [&'static str]) -> Self {
        Self { tainted, ..Self::of(Outcome::Survived) }
    }

    /// Another outcome, with this title.
    pub(super) const fn ended(outcome: Outcome, title: &'static str) -> Self {
        Self { title, ..Self::of(outcome) }
    }

    /// Nobody may find it: it harms nothing.
    pub(super) const fn nothing() -> Self {
        Self { title: "", ..Self::of(Outcome::Survived) }
    }

    /// The run is refused with this message.
    pub(super) const fn refused_run(message: &'static str) -> Self {
        Self { outcome: None, title: message, ..Self::of(Outcome::Skipped) }
    }

    /// Whether nobody may find the fault.
    pub(crate) fn is_nothing(&self) -> bool {
        self.outcome == Some(Outcome::Survived) && self.tainted.is_empty()
    }
}

/// What came of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The outcome; `None` if the run was refused.
    pub outcome: Option<Outcome>,
    /// The names of the probes that failed.
    pub probes: BTreeSet<String>,
    /// What taints the cell.
    pub tainted: Vec<String>,
    /// The title, or the message.
    pub title: String,
}

impl Observed {
    /// What a cell shows.
    pub(crate) fn of(cell: &CellRecord) -> Self {
        Self {
            outcome: Some(cell.outcome),
            probes: cell.failed_probes().into_iter().map(str::to_owned).collect(),
            tainted: cell.tainted.clone(),
            title: cell.title.clone(),
        }
    }

    /// A run that was refused.
    pub(crate) fn refused_run(message: &str) -> Self {
        Self { outcome: None, probes: BTreeSet::new(), tainted: Vec::new(), title: message.to_owned() }
    }
}

/// How what came differs from what has to come, a line each; empty if it does not.
pub(crate) fn differences(expected: &Expected, observed: &Observed) -> Vec<String> {
    let mut lines = Vec::new();
    if expected.outcome != observed.outcome {
        lines.push(format!("expected {}, observed {}", word(expected.outcome), word(observed.outcome)));
    }
    let wanted: BTreeSet<&str> = expected.probes.iter().copied().collect();
    let found: BTreeSet<&str> = observed.probes.iter().map(String::as_str).collect();
    lines.extend(wanted.difference(&found).map(|name| format!("the probe `{name}` did not find it")));
    lines.extend(found.difference(&wanted).map(|name| format!("the probe `{name}` failed too")));
    let matched = |glob: &&str| observed.tainted.iter().any(|line| matches(glob, line));
    let missing = expected.tainted.iter().filter(|glob| !matched(glob));
    lines.extend(missing.map(|glob| format!("nothing taints the cell by `{glob}`")));
    let is_wanted = |line: &&String| expected.tainted.iter().any(|glob| matches(glob, line));
    let others = observed.tainted.iter().filter(|line| !is_wanted(line));
    lines.extend(others.map(|line| format!("tainted too: {line}")));
    if !matches(expected.title, &observed.title) {
        lines.push(format!("expected the reason `{}`, observed `{}`", expected.title, observed.title));
    }
    lines
}

/// The outcome in a word.
pub(crate) fn word(outcome: Option<Outcome>) -> &'static str {
    outcome.map_or("a run that is refused", Outcome::word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(outcome: Outcome, probes: &[&str], tainted: &[&str], title: &str) -> Observed {
        let owned = |name: &&str| (*name).to_owned();
        Observed {
            outcome: Some(outcome),
            probes: probes.iter().map(owned).collect(),
            tainted: tainted.iter().map(owned).collect(),
            title: title.to_owned(),
        }
    }

    #[test]
    fn exactly_the_named_probes_find_it() {
        let expected = Expected::lost(&["a", "b"]);
        assert_eq!(differences(&expected, &observed(Outcome::Lost, &["a", "b"], &[], "a: x")), [""; 0]);
        let told = differences(&expected, &observed(Outcome::Lost, &["b", "c"], &[], "b: x"));
        assert_eq!(told, ["the probe `a` did not find it", "the probe `c` failed too"]);
        let told = differences(&expected, &observed(Outcome::Survived, &[], &[], ""));
        assert_eq!(told[0], "expected lost, observed survived");
        assert_eq!(told.len(), 3, "{told:?}");
        let told = differences(&expected, &observed(Outcome::Lost, &["a", "b"], &["the source: taint 4"], "a: x"));
        assert_eq!(told, ["tainted too: the source: taint 4"]);
    }

    #[test]
    fn exactly_the_named_lines_taint_it() {
        let expected = Expected::tainted(&["*taint 512 *", "*Out of memory*"]);
        let (flag, line) = ("the target: taint 512 (W)", "the target: Out of memory: Killed");
        assert_eq!(differences(&expected, &observed(Outcome::Survived, &[], &[line, flag], "x")), [""; 0]);
        let told = differences(&expected, &observed(Outcome::Survived, &[], &[flag, "BUG"], "x"));
        assert_eq!(told, ["nothing taints the cell by `*Out of memory*`", "tainted too: BUG"]);
    }

    #[test]
    fn a_reason_is_compared_and_nothing_is_nothing() {
        let expected = Expected::ended(Outcome::HarnessFailed, "*SIGKILL*");
        assert_eq!(differences(&expected, &observed(Outcome::HarnessFailed, &[], &[], "QEMU: SIGKILL")), [""; 0]);
        assert_eq!(differences(&expected, &observed(Outcome::HarnessFailed, &[], &[], "no room")).len(), 1);
        assert_eq!(differences(&Expected::nothing(), &observed(Outcome::Survived, &[], &[], "")), [""; 0]);
        assert_eq!(differences(&Expected::nothing(), &observed(Outcome::Survived, &[], &["x"], "x")).len(), 2);
        let refused = Expected::refused_run("*already has a run*");
        assert_eq!(differences(&refused, &Observed::refused_run("D already has a run")), [""; 0]);
        let told = differences(&refused, &observed(Outcome::Survived, &[], &[], ""));
        assert_eq!(told[0], "expected a run that is refused, observed survived");
    }
}
