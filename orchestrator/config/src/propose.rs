//! Writes the smallest addition to a matrix file that makes the observed outcomes expected.

use crate::expect::Expectations;
use crate::filter::{KernelPattern, Named, Subject};
use crate::names::is_path;
use luqual_model::{End, Expectation, Outcome, Phase, ProbeNames, Refusal, Side, Status, Version, line_glob, matches};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A cell that ran.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The parts of the cell.
    pub subject: Subject<'a>,
    /// The outcome.
    pub outcome: Outcome,
    /// What tainted the cell.
    pub tainted: &'a [String],
    /// The names of the failed probes.
    pub failed: &'a [String],
    /// The title.
    pub title: &'a str,
    /// The call that a kernel refused.
    pub refusal: Option<&'a Refusal>,
    /// The side of the kernel that refused or crashed.
    pub side: Option<Side>,
    /// The phase that decided the outcome.
    pub phase: Phase,
}

impl Observed<'_> {
    fn is_as(&self, expectation: Option<&Expectation>) -> bool {
        // The passed probes only tell a regression from another end, and neither is as expected.
        let probes = ProbeNames { failed: self.names(), passed: Vec::new() };
        let Self { outcome, tainted, title, refusal, side, phase, .. } = *self;
        Status::of(&End { outcome, tainted, probes, title, refusal, side, phase }, expectation) == Status::Expected
    }

    /// What would make it expected: the probes of a loss, the call and errno of a refusal, the signature of a crash.
    /// Of a loss that was known, the probes stay named as they were, as far as they still fail.
    fn known(&self, expectation: Option<&Expectation>) -> Expectation {
        let mut known = Expectation::of(self.outcome);
        let globs: BTreeSet<String> = self.tainted.iter().map(|line| line_glob(line)).collect();
        known.tainted = match expectation.filter(|before| before.outcome == self.outcome) {
            // Known globs stay, as far as they still match: a person may have written wider ones.
            Some(before) => {
                let takes = |glob: &String, line: &String| matches(glob, line);
                let still = before.tainted.iter().filter(|glob| self.tainted.iter().any(|line| takes(glob, line)));
                let is_new = |it: &String| !before.tainted.iter().any(|glob| takes(glob, it));
                let new: BTreeSet<String> =
                    self.tainted.iter().filter(|line| is_new(line)).map(|line| line_glob(line)).collect();
                still.cloned().chain(new).collect()
            }
            None => globs.into_iter().collect(),
        };
        let names = self.names();
        match expectation.filter(|before| before.outcome == self.outcome && !before.failed.is_empty()) {
            Some(before) => {
                let other = before.probe_mismatch(&names);
                let still = before.failed.iter().map(String::as_str).filter(|glob| !other.did_not_fail.contains(glob));
                known.failed = still.chain(other.also_failed).map(str::to_owned).collect();
                known.unstable.clone_from(&before.unstable);
            }
            None => {
                let each: BTreeSet<&str> = names.into_iter().collect();
                known.failed = each.into_iter().map(str::to_owned).collect();
            }
        }
        let is_crash = self.outcome == Outcome::Crashed;
        match self.refusal.filter(|_| known.failed.is_empty() && !is_crash) {
            Some(Refusal { call, errno, .. }) => {
                (known.call, known.errno) = (Some(call.clone()), Some(errno.clone()));
                known.phase = Some(self.phase);
            }
            None if is_crash || self.outcome == Outcome::Incompatible || self.is_lost_without_a_probe() => {
                known.signature = Some(self.title.to_owned()).filter(|title| !title.is_empty());
            }
            None => {}
        }
        if is_crash {
            (known.side, known.phase) = (self.side, Some(self.phase));
        }
        known
    }

    /// Such as a target that lacks what is needed for what was preserved.
    fn is_lost_without_a_probe(&self) -> bool {
        self.outcome == Outcome::Lost && self.failed.is_empty()
    }

    fn names(&self) -> Vec<&str> {
        self.failed.iter().map(String::as_str).collect()
    }
}

/// `[[expect]]` entries, to stand after all others, for the cells that are not as `expectations` say; empty if all
/// are. Each takes as many of them as a range of sources and of targets can without taking one that ended otherwise,
/// or that was not run; a loss of which other probes are named is another end. Cells of the harness's failures are
/// left alone: nothing is known of them.
pub fn propose(observed: &[Observed<'_>], expectations: &Expectations, reason: &str, link: Option<&str>) -> String {
    let kinds: BTreeSet<(&str, &str)> = observed.iter().map(|it| (it.subject.workload, it.subject.profile)).collect();
    let mut text = String::new();
    for (workload, profile) in kinds {
        let these = || observed.iter().filter(|it| (it.subject.workload, it.subject.profile) == (workload, profile));
        // A version takes its variants too, which may have ended otherwise: those then have rules of their own behind
        // it.
        let mut known = expectations.clone();
        let mut rules = Vec::new();
        for _ in 0..ROUNDS {
            let grid = Grid::new(these().copied().collect(), &known);
            let new = grid.rules();
            for Rule { sources, targets, end } in &new {
                let (source, target) = (grid.range(sources), grid.range(targets));
                let expectation = Expectation { reason: reason.to_owned(), ..end.clone() };
                known.add(&source, &target, profile, workload, expectation);
                rules.push((source, target, end.clone()));
            }
            if new.is_empty() {
                break;
            }
        }
        for (source, target, end) in rules {
            text.push_str("\n[[expect]]\n");
            let mut say = |name: &str, value: toml::Value| {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{name} = {value}");
            };
            say("source", source.into());
            say("target", target.into());
            say("workload", workload.into());
            say("profile", profile.into());
            say("outcome", end.outcome.word().into());
            if !end.tainted.is_empty() {
                say("tainted", end.tainted.into());
            }
            if !end.failed.is_empty() {
                say("failed", end.failed.into());
            }
            if !end.unstable.is_empty() {
                say("unstable", end.unstable.into());
            }
            let side = end.side.map(|side| side.to_string());
            let phase = end.phase.map(|phase| phase.to_string());
            let parts = [("call", end.call), ("errno", end.errno), ("signature", end.signature), ("side", side)];
            for (name, value) in parts.into_iter().chain([("phase", phase)]) {
                if let Some(value) = value {
                    say(name, value.into());
                }
            }
            say("reason", reason.into());
            if let Some(link) = link {
                say("link", link.into());
            }
        }
    }
    text
}

/// Each round adds narrower rules for the cells that a rule of the round before should not have matched.
const ROUNDS: usize = 4;

type Range = std::ops::RangeInclusive<usize>;

struct Rule {
    sources: Range,
    targets: Range,
    /// What it expects, without a reason.
    end: Expectation,
}

/// The cells of one workload on one profile, by kernels in version order.
struct Grid<'a> {
    kernels: Vec<Named<'a>>,
    ends: Vec<Vec<Option<Expectation>>>,
    /// The cells that are not as expected: source, target.
    wanted: BTreeSet<(usize, usize)>,
}

impl<'a> Grid<'a> {
    fn new(observed: Vec<Observed<'a>>, expectations: &Expectations) -> Self {
        let mut kernels: Vec<Named<'a>> = Vec::new();
        for kernel in observed.iter().flat_map(|it| [it.subject.source, it.subject.target]) {
            if !kernels.contains(&kernel) {
                kernels.push(kernel);
            }
        }
        // Paths come last, since no range contains them.
        kernels.sort_by_key(|kernel| (is_path(kernel.name), Version::of(kernel.release)));
        let place = |kernel: Named<'_>| kernels.iter().position(|known| *known == kernel).unwrap_or_default();
        let mut ends = vec![vec![None; kernels.len()]; kernels.len()];
        let mut wanted = BTreeSet::new();
        for it in observed {
            let at = (place(it.subject.source), place(it.subject.target));
            let expectation = expectations.of(&it.subject);
            ends[at.0][at.1] = Some(it.known(expectation));
            if it.outcome.is_conclusive() && !it.is_as(expectation) {
                wanted.insert(at);
            }
        }
        Self { kernels, ends, wanted }
    }

    fn rules(&self) -> Vec<Rule> {
        let mut left = self.wanted.clone();
        let mut rules = Vec::new();
        while let Some(first) = left.first().copied() {
            let rule = self.best(&left, first);
            left.retain(|(source, target)| !(rule.sources.contains(source) && rule.targets.contains(target)));
            rules.push(rule);
        }
        rules
    }

    /// The rule for a cell that matches most of the cells that are left.
    fn best(&self, left: &BTreeSet<(usize, usize)>, (source, target): (usize, usize)) -> Rule {
        let ranges =
            |around: usize| (0..=around).flat_map(move |from| (around..self.kernels.len()).map(move |to| from..=to));
        let end = self.ends[source][target].as_ref();
        let taken = |sources: &Range, targets: &Range| {
            left.iter().filter(|(source, target)| sources.contains(source) && targets.contains(target)).count()
        };
        let pairs = ranges(source).flat_map(|sources| ranges(target).map(move |targets| (sources.clone(), targets)));
        let fits = |(sources, targets): &(Range, Range)| {
            self.is_range(sources)
                && self.is_range(targets)
                && sources.clone().all(|source| targets.clone().all(|target| self.ends[source][target].as_ref() == end))
                && !self.takes_another(sources, targets, end)
        };
        // Of the rules that match as many, the narrowest.
        let size = |range: &Range| range.end() - range.start();
        let value = |(sources, targets): &(Range, Range)| {
            (taken(sources, targets), std::cmp::Reverse(size(sources) + size(targets)))
        };
        let (sources, targets) = pairs.filter(fits).max_by_key(value).unwrap_or((source..=source, target..=target));
        let end = end.cloned().unwrap_or_else(|| Expectation::of(Outcome::Survived));
        Rule { sources, targets, end }
    }

    /// Whether ranges take, by their versions, a kernel beside them that did not end so: a path, or a variant of a
    /// version.
    fn takes_another(&self, sources: &Range, targets: &Range, end: Option<&Expectation>) -> bool {
        let pattern = |range: &Range| self.range(range).parse::<KernelPattern>().ok();
        let (Some(from), Some(to)) = (pattern(sources), pattern(targets)) else { return false };
        let taken = |pattern: &KernelPattern, at: usize| pattern.takes(self.kernels[at]);
        let cells =
            (0..self.kernels.len()).flat_map(|source| (0..self.kernels.len()).map(move |target| (source, target)));
        cells
            .filter(|(source, target)| taken(&from, *source) && taken(&to, *target))
            .any(|(source, target)| self.ends[source][target].as_ref().is_some_and(|other| Some(other) != end))
    }

    /// Whether one pattern can name the kernels.
    fn is_range(&self, range: &Range) -> bool {
        range.start() == range.end() || range.clone().all(|at| !is_path(self.kernels[at].name))
    }

    fn range(&self, range: &Range) -> String {
        let (first, last) = (self.kernels[*range.start()], self.kernels[*range.end()]);
        if first == last { first.name.to_owned() } else { format!(">={},<={}", first.release, last.release) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::read;
    use crate::names::KnownNames;

    const KERNELS: [&str; 4] = ["6.19.14", "7.0.13", "7.2.12", "7.3.4"];

    fn taint() -> &'static [String] {
        static LINES: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
            vec!["target: WARNING: at kho_restore_page+0xb1/0x140, CPU#1: a/46".to_owned()]
        });
        &LINES
    }

    /// Rows are sources, columns targets: s, i, c, or t for a tainted survival.
    fn observed(rows: [&'static str; 4]) -> Vec<Observed<'static>> {
        let named = |index: usize| Named { name: KERNELS[index], release: KERNELS[index] };
        let cells = rows
            .into_iter()
            .enumerate()
            .flat_map(|(source, row)| row.chars().enumerate().map(move |(target, letter)| (source, target, letter)));
        cells
            .map(|(source, target, letter)| Observed {
                subject: Subject {
                    source: named(source),
                    target: named(target),
                    profile: "q35-intel",
                    workload: "memfd.basic",
                },
                outcome: match letter {
                    'i' => Outcome::Incompatible,
                    'c' => Outcome::Crashed,
                    'h' => Outcome::HarnessFailed,
                    _ => Outcome::Survived,
                },
                tainted: if letter == 't' { taint() } else { &[] },
                failed: &[],
                title: "x",
                refusal: None,
                side: (letter == 'c').then_some(Side::Target),
                phase: Phase::Verify,
            })
            .collect()
    }

    fn file(rules: &str) -> Expectations {
        let known = KnownNames { kernels: &KERNELS, workloads: &["memfd.basic"], profiles: &["q35-intel"] };
        let text = format!(
            "[matrix.a]\nkernels = [\"6.19.14\", \"7.0.13\", \"7.2.12\", \"7.3.4\"]\npairs = \"all\"\n\
             workloads = [\"*\"]\n{rules}"
        );
        read("m.toml", &text, &known).unwrap().expectations
    }

    #[test]
    fn the_fewest_ranges_make_a_run_expected() {
        let run = observed(["scii", "ssii", "iist", "iihs"]);
        let rules = propose(&run, &Expectations::default(), "why", None);
        // Two corners, the crash, the taint; the harness's failure is left alone.
        assert_eq!(rules.matches("[[expect]]").count(), 4, "{rules}");
        assert!(rules.contains("source = \">=6.19.14,<=7.0.13\"\ntarget = \">=7.2.12,<=7.3.4\""), "{rules}");
        assert!(
            rules.contains("tainted = [\"target: WARNING: at kho_restore_page+*/*, CPU#*: a/*\"]\nreason = \"why\""),
            "{rules}"
        );
        assert_eq!(propose(&run, &file(&rules), "why", None), "");
    }

    #[test]
    fn a_refusal_names_call_and_errno_and_a_crash_its_signature_side_and_phase() {
        let refusal = Refusal { call: "ioctl PRESERVE".into(), errno: "EEXIST".into(), about: "x".into() };
        let one = |outcome, refused: bool| {
            let subject = observed(["s000", "0000", "0000", "0000"])[0].subject;
            let (title, side, phase) = ("Oops: x, in y", Some(Side::Source), Phase::Preserve);
            let refusal = Some(&refusal).filter(|_| refused);
            Observed { subject, outcome, tainted: &[], failed: &[], title, refusal, side, phase }
        };
        const CALL: &str = "call = \"ioctl PRESERVE\"\nerrno = \"EEXIST\"\nphase = \"preserve\"\nreason";
        for (seen, told) in [
            (one(Outcome::Refused, true), CALL),
            (one(Outcome::Lost, true), CALL),
            (one(Outcome::Incompatible, true), CALL),
            (one(Outcome::Incompatible, false), "signature = \"Oops: x, in y\"\nreason"),
            (
                one(Outcome::Crashed, false),
                "signature = \"Oops: x, in y\"\nside = \"source\"\nphase = \"preserve\"\nreason",
            ),
        ] {
            let rules = propose(&[seen], &Expectations::default(), "now", None);
            assert!(rules.contains(told), "{rules}");
            // It is as expected by that, and nothing else is.
            let known = file(&rules);
            let is_as = |seen: &Observed<'_>| seen.is_as(known.of(&seen.subject));
            assert!(is_as(&seen), "{rules}");
            let other = Refusal { errno: "EBUSY".into(), ..refusal.clone() };
            let others = match seen.refusal {
                Some(_) => vec![Observed { refusal: Some(&other), ..seen }, Observed { phase: Phase::Load, ..seen }],
                None if seen.outcome == Outcome::Crashed => {
                    vec![Observed { title: "BUG: z", ..seen }, Observed { side: Some(Side::Target), ..seen }]
                }
                None => vec![Observed { title: "BUG: z", ..seen }],
            };
            assert!(others.iter().all(|other| !is_as(other)), "{rules}");
        }
    }

    #[test]
    fn any_reason_can_be_read_again() {
        let run = observed(["icii", "iiii", "iiii", "iiii"]);
        for reason in ["\"quoted\" and 'single'", "two\nlines", "a tab\t, a bell\u{7}, a \\ and \u{1b}[1m", "»é«"] {
            let rules = propose(&run, &Expectations::default(), reason, None);
            let first = observed(["i000", "0000", "0000", "0000"])[0].subject;
            assert_eq!(file(&rules).of(&first).map(|it| it.reason.as_str()), Some(reason), "{rules}");
        }
    }

    #[test]
    fn a_path_or_a_variant_that_ended_otherwise_is_not_taken() {
        let cell = |source: (&'static str, &'static str), outcome| Observed {
            subject: Subject {
                source: Named { name: source.0, release: source.1 },
                target: Named { name: "7.3.4", release: "7.3.4" },
                profile: "q35-intel",
                workload: "memfd.basic",
            },
            outcome,
            tainted: &[],
            failed: &[],
            title: "x",
            refusal: None,
            side: None,
            phase: Phase::Verify,
        };
        let (bad, good) = (Outcome::Incompatible, Outcome::Survived);
        let run = [
            cell(("7.0.13", "7.0.13"), bad),
            cell(("7.2.12", "7.2.12"), bad),
            cell(("./tree", "7.1.2-mine"), good),
            cell(("7.3.4", "7.3.4"), bad),
            cell(("7.3.4-mine", "7.3.4-mine"), good),
        ];
        let mut known = Expectations::default();
        for rule in propose(&run, &known, "why", None).split("[[expect]]\n").skip(1) {
            let value: toml::Table = rule.parse().unwrap();
            let text = |key: &str| value[key].as_str().unwrap();
            let outcome = Outcome::from_word(text("outcome")).unwrap();
            let expectation = Expectation::of(outcome);
            known.add(text("source"), text("target"), text("profile"), text("workload"), expectation);
        }
        for cell in &run {
            assert!(cell.is_as(known.of(&cell.subject)), "{cell:?}");
        }
    }

    #[test]
    fn the_probes_of_a_known_loss_stay_named() {
        let probes = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let lost = |at: usize, failed| {
            let named = Named { name: KERNELS[at], release: KERNELS[at] };
            let (profile, workload) = ("q35-intel", "memfd.basic");
            let subject = Subject { source: named, target: named, profile, workload };
            let (title, phase) = ("x", Phase::Verify);
            Observed { subject, outcome: Outcome::Lost, tainted: &[], failed, title, refusal: None, side: None, phase }
        };
        const THEN: &str = "[[expect]]\nsource = \"*\"\ntarget = \"*\"\noutcome = \"lost\"\n\
                            broken = [\"D3 *\", \"D4 *\"]\nreason = \"then\"\n";
        let before = file(THEN);
        let (known, other, fewer) = (probes(&["D3 a", "D4 b"]), probes(&["D0 x", "D3 a", "D4 b"]), probes(&["D4 b"]));
        assert_eq!(propose(&[lost(0, &known)], &before, "now", None), "");
        let told = propose(&[lost(0, &other)], &before, "now", None);
        assert!(told.contains("outcome = \"lost\"\nfailed = [\"D3 *\", \"D4 *\", \"D0 x\"]\nreason"), "{told}");
        let told = propose(&[lost(0, &fewer)], &before, "now", None);
        assert!(told.contains("outcome = \"lost\"\nfailed = [\"D4 *\"]\nreason"), "{told}");
        // An unstable probe is no reason for a rule. (The rules that stand here have the old names of the keys.)
        let unstable = THEN.replace("reason", "unsteady = [\"D0 *\"]\nreason");
        assert_eq!(propose(&[lost(0, &other)], &file(&unstable), "now", None), "");
        let told = propose(&[lost(0, &fewer)], &file(&unstable), "now", None);
        assert!(told.contains("failed = [\"D4 *\"]\nunstable = [\"D0 *\"]\nreason"), "{told}");
        // A cell whose expectation names no probes gets all, each once.
        let twice = probes(&["b", "a", "b"]);
        let told = propose(&[lost(0, &twice)], &Expectations::default(), "now", None);
        assert!(told.contains("failed = [\"a\", \"b\"]\nreason"), "{told}");
        let run = [lost(0, &other), lost(1, &known), lost(2, &other)];
        let rules = propose(&run, &before, "now", None);
        assert_eq!(rules.matches("[[expect]]").count(), 2, "{rules}");
        let after = file(&format!("{THEN}{rules}"));
        assert!(run.iter().all(|cell| cell.is_as(after.of(&cell.subject))));
        assert_eq!(after.of(&run[1].subject).unwrap().failed, ["D3 *", "D4 *"]);
    }

    #[test]
    fn a_later_rule_corrects_an_earlier_one() {
        let before = propose(&observed(["siii", "isii", "iisi", "iiis"]), &Expectations::default(), "then", None);
        let now = observed(["siii", "ssii", "iisi", "iiis"]);
        let mended = propose(&now, &file(&before), "now", Some("https://example.org"));
        assert_eq!(mended.matches("[[expect]]").count(), 1, "{mended}");
        assert!(
            mended.contains("outcome = \"survived\"") && mended.contains("link = \"https://example.org\""),
            "{mended}"
        );
        assert_eq!(propose(&now, &file(&(before + &mended)), "x", None), "");
    }
}
