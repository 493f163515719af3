//! Which findings are kept of a kernel that prints more of them than anybody reads.

use luqual_model::bounds::{FINDINGS, FINDINGS_OF_SIDE};
use luqual_model::{Finding, FindingKind, Side};
use std::collections::HashMap;

/// The findings that are kept. Of each kind the first ones of each kernel are, which are the causes, and the last one,
/// whose text has the number of those that are not. So there is a crash or a taint among them if there was one.
#[derive(Debug, Default)]
pub(super) struct Kept {
    findings: Vec<Finding>,
    /// How many there were of each kind of each kernel, and of each side.
    of_kernel: HashMap<(FindingKind, u32), usize>,
    of_side: HashMap<(FindingKind, Side), usize>,
    /// The last finding of a kind and a side, of which not all are kept.
    last: HashMap<(FindingKind, Side), Last>,
    /// The place of the finding that was added last, if it is kept.
    newest: Option<usize>,
    /// The finding that was added last, if it is one of many.
    one_of_many: Option<Finding>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    place: usize,
    more: usize,
}

/// What follows the text of a line that stands for many.
const LAST: &str = " (the last of ";

impl Kept {
    /// All that are kept, in order.
    pub(super) fn all(&self) -> &[Finding] {
        &self.findings
    }

    /// The finding that was added last, if it is kept.
    pub(super) fn newest(&mut self) -> Option<&mut Finding> {
        self.findings.get_mut(self.newest?)
    }

    /// Adds one.
    pub(super) fn add(&mut self, finding: Finding) {
        let (of_kernel, of_side) = ((finding.kind, finding.hop), (finding.kind, finding.side));
        // A guest that forges banners is not remembered beyond the bound of its side.
        let in_side = self.of_side.entry(of_side).or_default();
        let is_first = if *in_side < FINDINGS_OF_SIDE {
            let in_kernel = self.of_kernel.entry(of_kernel).or_default();
            let is_first = *in_kernel < FINDINGS;
            *in_kernel += usize::from(is_first);
            is_first
        } else {
            false
        };
        if is_first {
            *in_side += 1;
            (self.newest, self.one_of_many) = (Some(self.findings.len()), None);
            self.findings.push(finding);
            return;
        }
        self.one_of_many = Some(finding.clone());
        self.count(finding);
    }

    /// The finding that was added last is of another kind, since its message went on.
    pub(super) fn change_newest(&mut self, kind: FindingKind, text: String) {
        // One of many of its first kind may be the only one of this kind.
        if let Some(one) = self.one_of_many.take() {
            self.add(Finding { kind, text, ..one });
        } else if let Some(finding) = self.newest() {
            (finding.kind, finding.text) = (kind, text);
        }
    }

    fn count(&mut self, finding: Finding) {
        let key = (finding.kind, finding.side);
        let (place, more) = match self.last.get(&key) {
            None => (self.findings.len(), 1),
            Some(last) => (last.place, last.more + 1),
        };
        let told = |text: &str| format!("{text}{LAST}{more} more lines of this kind)");
        let finding = Finding { text: told(&finding.text), ..finding };
        self.newest = Some(place);
        if place == self.findings.len() {
            self.findings.push(finding);
        } else if self.findings[place + 1..].iter().any(|later| later.kind.is_crash()) {
            // The line is from after the crash; the last one before it may be its cause.
            self.newest = None;
            let known = &mut self.findings[place];
            known.text = told(known.text.rsplit_once(LAST).map_or("", |(text, _)| text));
        } else {
            self.findings[place] = finding;
        }
        self.last.insert(key, Last { place, more });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: FindingKind, hop: u32, line: u64) -> Finding {
        let (side, text) = (Side::after(hop), format!("{kind} {line}"));
        Finding { kind, side, hop, at_us: line, line, text, function: None }
    }

    fn kept(findings: impl Iterator<Item = Finding>) -> Vec<Finding> {
        let mut kept = Kept::default();
        findings.for_each(|finding| kept.add(finding));
        kept.findings
    }

    #[test]
    fn a_flood_keeps_the_first_and_the_last_and_the_number_of_the_others() {
        let flood = (1..=60_000).map(|line| finding(FindingKind::Warning, 0, line));
        let kept = kept(flood.chain([finding(FindingKind::Panic, 0, 60_001)]));
        assert_eq!(kept.len(), FINDINGS + 2);
        assert!(kept.iter().zip(1..).take(FINDINGS).all(|(kept, line)| kept.line == line));
        let last = &kept[FINDINGS];
        assert_eq!(last.text, format!("warning 60000 (the last of {} more lines of this kind)", 60_000 - FINDINGS));
        assert_eq!(kept[FINDINGS + 1].kind, FindingKind::Panic, "a crash is never behind the bound of another kind");
    }

    #[test]
    fn no_kind_and_no_kernel_hides_another() {
        use FindingKind::{Bug, Error, Luo, Warning};
        let flood = |kind, hop| (1..=1000).map(move |line| finding(kind, hop, line));
        let all = flood(Luo, 0).chain(flood(Error, 0)).chain(flood(Luo, 1)).chain([
            finding(Warning, 0, 7),
            finding(Bug, 2, 8),
            finding(Luo, 2, 9),
        ]);
        let kept = kept(all);
        for (kind, hop) in [(Luo, 0), (Error, 0), (Luo, 1), (Warning, 0), (Bug, 2), (Luo, 2)] {
            assert!(kept.iter().any(|kept| (kept.kind, kept.hop) == (kind, hop)), "{kind} {hop}");
        }
        assert!(kept.len() < 4 * (FINDINGS + 1));
    }

    #[test]
    fn a_guest_that_forges_banners_is_bounded_too() {
        let all = (0..100_000).map(|hop| finding(FindingKind::Panic, hop, u64::from(hop)));
        let mut kept = Kept::default();
        all.for_each(|finding| kept.add(finding));
        assert_eq!(kept.all().len(), 1 + FINDINGS_OF_SIDE + 1);
        assert!(kept.of_kernel.len() <= 2 * FINDINGS_OF_SIDE);
        assert_eq!((kept.all()[0].side, kept.all()[1].side), (Side::Source, Side::Target));
    }

    #[test]
    fn the_last_warning_before_a_panic_stays_when_others_follow() {
        let warning = |line| finding(FindingKind::Warning, 1, line);
        let before = (1..=100).map(warning).chain([finding(FindingKind::Panic, 1, 101)]);
        let kept = kept(before.chain((102..=200).map(warning)));
        assert_eq!(kept[FINDINGS].line, 100);
        assert_eq!(kept[FINDINGS].text, "warning 100 (the last of 149 more lines of this kind)");
    }

    #[test]
    fn a_line_that_turns_out_to_be_another_is_kept_as_that() {
        let mut kept = Kept::default();
        (1..=100).for_each(|line| kept.add(finding(FindingKind::Warning, 1, line)));
        kept.change_newest(FindingKind::Panic, "Kernel panic".into());
        assert_eq!(kept.all().last().map(|last| (last.kind, last.line)), Some((FindingKind::Panic, 100)));
        let mut kept = Kept::default();
        kept.add(finding(FindingKind::Luo, 1, 1));
        kept.change_newest(FindingKind::Error, "luo: x".into());
        assert_eq!(kept.all(), [Finding { text: "luo: x".into(), ..finding(FindingKind::Error, 1, 1) }]);
    }
}
