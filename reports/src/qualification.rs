//! One page: may a host that runs this be live-updated to that, and back?

use crate::brief::Brief;
use crate::record::Record;
use crate::words::line;
use luqual_model::{
    Acceptance, Accepted, CellKey, CellRecord, KernelInfo, Outcome, Policy, RunInfo, Status, matches, plain,
};
use luqual_protocol::{Consequence, find_workload};
use maud::{DOCTYPE, PreEscaped, html as markup};
use std::cmp::Reverse;
use std::io;

/// GO, or why not: of an update, and of what was asked for beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qualification {
    /// The update first.
    answers: Vec<Answer>,
    /// What was not to be tested, and why.
    left_out: Vec<String>,
    /// The rule.
    policy: Policy,
}

/// The answer for a pair of kernels.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Answer {
    /// What the pair is.
    title: String,
    /// What survived, untainted, every time: workload, and how often.
    survived: Vec<String>,
    /// Why not, the worst consequence first: what no expectation describes.
    new: Vec<String>,
    /// The same of what the expectations describe, with their reasons.
    known: Vec<String>,
    /// What the policy accepts, with reason and last day.
    accepted: Vec<String>,
    /// What could not be tested, and why.
    untested: Vec<String>,
}

/// The names of a source and a target.
type Pair<'a> = (&'a str, &'a str);

impl Qualification {
    /// Judges a run by a policy. What is known to fail fails, unless the policy accepts it.
    pub fn of(record: &Record, policy: &Policy) -> io::Result<Self> {
        let mut answers: Vec<(Pair<'_>, Answer)> = Vec::new();
        for planned in &record.run.planned {
            let pair = pair_of(&planned.key);
            if answer_of(&mut answers, &planned.key).is_none() {
                let update = answers.first().map_or(pair, |(update, _)| *update);
                answers.push((pair, Answer { title: title(pair, update), ..Answer::default() }));
            }
        }
        // Days compare as texts.
        let today = record.run.started.get(..10).unwrap_or_default();
        let mut failed = Vec::new();
        for cell in record.cells() {
            let cell = cell?;
            let Some(answer) = answer_of(&mut answers, &cell.plan.key) else { continue };
            if Brief::of(&cell).clean() {
                answer.survived.push(format!("{}: {}", name(&cell), times(&cell)));
                continue;
            }
            let untested = matches!(cell.outcome, Outcome::Skipped | Outcome::HarnessFailed);
            match policy.accepts(&cell, today) {
                Acceptance::Accepted(rule) => answer.accepted.push(format!("{}; {}", ended(&cell), accepted(rule))),
                acceptance if untested => answer.untested.push(format!("{}{}", ended(&cell), expired(acceptance))),
                acceptance => {
                    let expired = expired(acceptance);
                    failed.push((cell, expired));
                }
            }
        }
        // Stable: of what is equally bad, the first comes first.
        failed.sort_by_key(|(cell, _)| (consequence(cell), Reverse(cell.outcome.severity())));
        for (cell, expired) in &failed {
            let Some(answer) = answer_of(&mut answers, &cell.plan.key) else { continue };
            let told = format!("{}: {}{expired}", consequence(cell).word(), ended(cell));
            match cell.plan.expectation.as_ref().filter(|_| cell.status == Status::Expected) {
                Some(known) => answer.known.push(format!("{told}; known: {}", known.reason)),
                None => answer.new.push(told),
            }
        }
        let fault = record.run.settings.inject.as_ref();
        let fault = fault.map(|fault| format!("{fault} was injected: the result says nothing about the kernels"));
        let interrupted = record.run.interrupted.then(|| "the run was interrupted".to_owned());
        let repeated = record.run.settings.repeat;
        let too_few = policy.repeat.filter(|repeat| repeated < *repeat).map(|repeat| {
            format!("the policy {} asks for {repeat} repetitions, and each cell ran {repeated} times", policy.name)
        });
        for (_, answer) in &mut answers {
            answer.untested.extend(fault.iter().chain(&interrupted).chain(&too_few).cloned());
        }
        for planned in record.left() {
            if let Some(answer) = answer_of(&mut answers, &planned.key) {
                answer.untested.push(format!("{} on {}: not run", planned.key.workload, planned.key.profile));
            }
        }
        let is_planned = |glob: &&String| record.run.planned.iter().any(|cell| matches(glob, &cell.key.workload));
        for glob in policy.require.iter().filter(|glob| !is_planned(glob)) {
            for (_, answer) in &mut answers {
                answer.untested.push(format!("{glob}: the policy {} requires it, and no cell is of it", policy.name));
            }
        }
        let answers = answers.into_iter().map(|(_, answer)| answer).collect();
        Ok(Self { answers, left_out: Vec::new(), policy: policy.clone() })
    }

    /// Names what was not to be tested, and why. It does not change the answer.
    pub fn leaving_out(self, left_out: Vec<String>) -> Self {
        Self { left_out, ..self }
    }

    /// Whether all that was asked for may be done: something was tested, all of it, and all of it survived.
    pub fn go(&self) -> bool {
        !self.answers.is_empty() && self.answers.iter().all(Answer::go)
    }

    /// The page as text.
    pub fn text(&self, run: &RunInfo) -> String {
        let mut text = String::new();
        let mut add = |told: &str| {
            text.push_str(told);
            text.push('\n');
        };
        if self.answers.is_empty() {
            add("NO-GO: nothing was tested");
        }
        for answer in &self.answers {
            add(&line(&format!("{}: {}", answer.word(), answer.title)));
        }
        for answer in &self.answers {
            // One answer needs no heading: its word is just above.
            if self.answers.len() > 1 {
                add("");
                add(&line(&format!("{}: {}", answer.word(), answer.title)));
            }
            for (title, lines) in answer.parts() {
                add(&format!("\n{title}:"));
                lines.iter().for_each(|told| add(&format!("  {}", line(told))));
            }
        }
        if !self.left_out.is_empty() {
            add(&format!("\n{LEFT_OUT}:"));
            self.left_out.iter().for_each(|told| add(&format!("  {}", line(told))));
        }
        add("");
        for (name, value) in facts(run, &self.policy) {
            add(&line(&format!("{name:<12} {value}")));
        }
        text
    }

    /// The page, to print or to attach.
    pub fn html(&self, run: &RunInfo) -> String {
        let list = |title: &str, lines: &[String]| {
            markup! {
                h2 { (title) }
                ul { @for line in lines { li { (line) } } }
            }
        };
        let page = markup! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (if self.go() { GO } else { NO_GO }) @if let Some(first) = self.answers.first() { " " (first.title) } }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    @if self.answers.is_empty() { p.word { (NO_GO) } h1 { "Nothing was tested" } }
                    @for answer in &self.answers {
                        div.answer {
                            p.word.go[answer.go()] { (answer.word()) }
                            h1 { (answer.title) }
                        }
                    }
                    @for answer in &self.answers {
                        @if self.answers.len() > 1 { h1.of { (answer.word()) ": " (answer.title) } }
                        @for (title, lines) in answer.parts() { (list(title, lines)) }
                    }
                    @if !self.left_out.is_empty() { (list(LEFT_OUT, &self.left_out)) }
                    h2 { "how it was tested" }
                    dl { @for (name, value) in facts(run, &self.policy) { dt { (name) } dd { (value) } } }
                }
            }
        };
        plain::lines(&page.into_string())
    }
}

const GO: &str = "GO";
const NO_GO: &str = "NO-GO";
const LEFT_OUT: &str = "left out, so that nothing is known of it";

fn pair_of(key: &CellKey) -> Pair<'_> {
    (&key.source, &key.target)
}

/// The answer for a cell's pair.
fn answer_of<'a>(answers: &'a mut [(Pair<'_>, Answer)], key: &CellKey) -> Option<&'a mut Answer> {
    answers.iter_mut().find(|(pair, _)| *pair == pair_of(key)).map(|(_, answer)| answer)
}

/// What a pair is, beside the update.
fn title(pair: Pair<'_>, update: Pair<'_>) -> String {
    let (source, target) = pair;
    match pair {
        _ if pair == update => format!("live update {source} → {target}"),
        _ if pair == (update.1, update.0) => format!("the way back, {source} → {target}"),
        _ if source == target => format!("{source} into itself"),
        _ => format!("{source} → {target}"),
    }
}

impl Answer {
    fn go(&self) -> bool {
        let reasons = [&self.new, &self.known, &self.untested];
        reasons.into_iter().all(Vec::is_empty) && !self.survived.is_empty()
    }

    fn word(&self) -> &'static str {
        if self.go() { GO } else { NO_GO }
    }

    /// The parts of the page that are not empty.
    fn parts(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        let parts = [
            ("new in this pair, worst first", self.new.as_slice()),
            ("known of released kernels, worst first", &self.known),
            ("not tested", &self.untested),
            ("accepted by the policy", &self.accepted),
            ("survived", &self.survived),
        ];
        parts.into_iter().filter(|(_, lines)| !lines.is_empty())
    }
}

fn name(cell: &CellRecord) -> String {
    format!("{} on {}", cell.plan.key.workload, cell.plan.key.profile)
}

fn times(cell: &CellRecord) -> String {
    cell.rate().map_or_else(|| "once".to_owned(), |rate| rate.to_string())
}

/// What the end of a cell means. A crash, and a target that refuses the whole handover, cost every machine; a source that
/// refuses goes on.
fn consequence(cell: &CellRecord) -> Consequence {
    match cell.outcome {
        Outcome::Crashed | Outcome::Incompatible => Consequence::MachineLost,
        Outcome::Refused => Consequence::LimitReached,
        Outcome::Survived => Consequence::PropertyChanged,
        Outcome::Lost | Outcome::Skipped | Outcome::HarnessFailed => {
            // A program of the user's is not in the table.
            find_workload(&cell.plan.key.workload).map_or(Consequence::DataLost, |workload| workload.consequence())
        }
    }
}

fn ended(cell: &CellRecord) -> String {
    let rate = cell.rate().map_or_else(String::new, |rate| format!(" ({rate})"));
    let flaky = if cell.status == Status::Flaky { ", not every time" } else { "" };
    format!("{}: {}{flaky}: {}{rate}", name(cell), Brief::of(cell).word(), cell.title)
}

fn accepted(rule: &Accepted) -> String {
    format!("accepted until {}: {}", rule.until, rule.reason)
}

fn expired(acceptance: Acceptance<'_>) -> String {
    match acceptance {
        Acceptance::Expired(rule) => format!("; it was accepted until {}: {}", rule.until, rule.reason),
        Acceptance::No | Acceptance::Accepted(_) => String::new(),
    }
}

/// The policy in one line.
fn rule(policy: &Policy) -> String {
    let summary = Some(format!("; {}", policy.summary)).filter(|_| !policy.summary.is_empty()).unwrap_or_default();
    let require = policy.require.join(", ");
    format!(
        "{}: requires {require}, accepts {}{summary}",
        policy.name,
        match policy.accept.len() {
            0 => "no loss".to_owned(),
            1 => "known losses by 1 rule".to_owned(),
            count => format!("known losses by {count} rules"),
        }
    )
}

fn facts(run: &RunInfo, policy: &Policy) -> Vec<(String, String)> {
    let host = &run.host;
    let mut facts = vec![("policy".to_owned(), rule(policy))];
    let kernel = |info: &KernelInfo| {
        (format!("kernel {}", info.name), format!("{}, sha256 {}", info.provenance, info.image_sha256))
    };
    facts.extend(run.kernels.values().map(kernel));
    facts.extend(crate::kernels::facts(run.kernels.values()));
    facts.extend(run.machines.values().map(|machine| (format!("machine {}", machine.name), machine.in_words())));
    for (name, options) in [("source", &run.settings.append.source), ("target", &run.settings.append.target)] {
        facts.extend(Some((format!("--append {name}"), options.clone())).filter(|_| !options.is_empty()));
    }
    if let Some(fault) = &run.settings.inject {
        facts.push(("INJECTED".to_owned(), format!("{fault}: an injected fault; this says nothing about the kernels")));
    }
    facts.push(("repetitions".to_owned(), run.settings.repeat.to_string()));
    facts.push(("command".to_owned(), run.command.join(" ")));
    facts.push(("emulator".to_owned(), format!("QEMU {} with {} ({})", host.qemu, host.accel, host.accel_reason)));
    facts.push(("tool".to_owned(), run.tool.clone()));
    facts.push(("run".to_owned(), format!("{}, {}", run.id, run.started)));
    facts
}

const STYLE: &str = "
body{font:14px/1.4 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.2rem}h2{font-size:1rem;margin:1rem 0 .3rem}
.word{display:inline-block;font-size:2rem;font-weight:700;border:3px solid #b3261e;color:#b3261e;padding:.1rem .8rem;margin:0}
.word.go{border-color:#2a7d3f;color:#2a7d3f}ul{margin:.2rem 0;padding-left:1.2rem}
.answer{display:flex;align-items:center;gap:1rem;margin:.3rem 0}.answer .word{font-size:1.3rem;min-width:5.2rem;text-align:center}
h1.of{margin-top:1.6rem;border-top:1px solid #ccc;padding-top:.8rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;font-size:.85rem}dd{margin:0;overflow-wrap:anywhere}
@media print{body{margin:0}}
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{attempt, cell, record_of, written};
    use luqual_model::Expectation;

    fn by_own(record: &Record) -> Qualification {
        Qualification::of(record, &Policy::own()).unwrap()
    }

    fn judged(cells: Vec<CellRecord>) -> Qualification {
        by_own(&record_of(cells))
    }

    #[test]
    fn each_pair_has_an_answer_of_its_own() {
        let cells = vec![
            cell("a", "b", Outcome::Survived, ""),
            cell("b", "a", Outcome::Incompatible, "KHO: no"),
            cell("a", "a", Outcome::Survived, ""),
        ];
        let record = record_of(cells);
        let qualification = by_own(&record);
        assert!(!qualification.go());
        let text = qualification.text(&record.run);
        let told = "GO: live update a → b\nNO-GO: the way back, b → a\nGO: a into itself\n\nGO: live update a → b\n\nsurvived:\n";
        assert!(text.starts_with(told), "{text}");
        let back = text.split("\nNO-GO: the way back, b → a\n\n").nth(1).unwrap();
        assert!(
            back.starts_with(
                "new in this pair, worst first:\n  machine lost: memfd.basic on q35-intel: incompatible: KHO: no\n"
            ),
            "{text}"
        );
        let page = qualification.html(&record.run);
        assert_eq!((page.matches(">GO<").count(), page.matches(">NO-GO<").count()), (2, 1));
    }

    #[test]
    fn only_clean_survivals_go() {
        for outcome in Outcome::ALL {
            let qualification = judged(vec![cell("a", "b", outcome, "why")]);
            assert_eq!(qualification.go(), outcome == Outcome::Survived, "{outcome}");
        }
        let mut tainted = cell("a", "b", Outcome::Survived, "source: WARNING");
        tainted.tainted = vec!["source: WARNING".into()];
        assert!(!judged(vec![tainted]).go());
        let mut flaky = cell("a", "b", Outcome::Survived, "");
        (flaky.status, flaky.attempts) = (Status::Flaky, vec![attempt(Outcome::Survived, false); 2]);
        assert!(!judged(vec![flaky]).go());
    }

    #[test]
    fn a_planted_fault_or_an_interruption_is_no_go() {
        let mut record = record_of(vec![cell("a", "b", Outcome::Survived, "")]);
        assert!(by_own(&record).go());
        record.run.settings.inject = Some("flip-unpreserved".into());
        assert!(!by_own(&record).go());
        record.run.settings.inject = None;
        record.run.interrupted = true;
        assert!(!by_own(&record).go());
    }

    #[test]
    fn nothing_tested_or_not_all_tested_is_no_go() {
        assert!(!judged(Vec::new()).go());
        let (ended, left) = (cell("a", "b", Outcome::Survived, ""), cell("a", "c", Outcome::Survived, ""));
        let cut_off = written(vec![ended.plan.clone(), left.plan], vec![ended]);
        assert!(!by_own(&cut_off).go());
    }

    #[test]
    fn nothing_that_a_kernel_said_moves_the_cursor() {
        let mut record = record_of(vec![cell("a\u{1b}[2J", "b", Outcome::Crashed, "panic\u{1b}[2J\r")]);
        record.run.command.push("\u{1b}[2J".into());
        let text = by_own(&record).text(&record.run);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn what_was_left_out_is_named_and_changes_nothing() {
        let left_out = vec!["it takes minutes: lifecycle.hundred".to_owned()];
        let record = record_of(vec![cell("a", "b", Outcome::Survived, "")]);
        let qualification = by_own(&record).leaving_out(left_out);
        assert!(qualification.go());
        for page in [qualification.text(&record.run), qualification.html(&record.run)] {
            assert!(page.contains("left out") && page.contains("it takes minutes: lifecycle.hundred"), "{page}");
        }
    }

    /// A cell that ended so, and that is expected to end so; `None` if nothing is known of it.
    fn ended_so(workload: &str, outcome: Outcome, expected: Option<Outcome>) -> CellRecord {
        let mut cell = cell("a", "b", outcome, "why");
        cell.plan.key.workload = workload.into();
        cell.id = cell.plan.key.id();
        let expectation = |outcome| Expectation { reason: "as ever".into(), ..Expectation::of(outcome) };
        cell.plan.expectation = expected.map(expectation);
        cell
    }

    /// A cell that ended as an expectation says.
    fn known(workload: &str, outcome: Outcome) -> CellRecord {
        ended_so(workload, outcome, Some(outcome))
    }

    #[test]
    fn an_expected_failure_is_a_failure_and_is_told_from_a_new_one() {
        let record = record_of(vec![known("memfd.basic", Outcome::Incompatible)]);
        let text = by_own(&record).text(&record.run);
        let told = "NO-GO: live update a → b\n\nknown of released kernels, worst first:\n  machine lost: memfd.basic on \
                    q35-intel: incompatible: why; known: as ever\n";
        assert!(text.starts_with(told), "{text}");
    }

    #[test]
    fn what_a_failure_means_orders_the_reasons() {
        let of = |workload: &str, outcome| ended_so(workload, outcome, None);
        let cells = vec![
            of("scale.files-1000", Outcome::Lost),
            of("memfd.name", Outcome::Lost),
            of("memfd.basic", Outcome::Lost),
            of("memfd.huge", Outcome::Refused),
            of("luo.device-mode", Outcome::Lost),
            of("luo.memory-closed", Outcome::Lost),
            of("memfd.tail", Outcome::Crashed),
            of("external.mine", Outcome::Lost),
        ];
        let answer = &judged(cells).answers[0];
        let words: Vec<&str> = answer.new.iter().filter_map(|line| line.split(" on ").next()).collect();
        let expected = [
            "machine lost: memfd.tail",
            "isolation broken: luo.device-mode",
            "data lost: memfd.basic",
            "data lost: external.mine",
            "property changed: memfd.name",
            "resource leaked: luo.memory-closed",
            "limit reached: scale.files-1000",
            "limit reached: memfd.huge",
        ];
        assert_eq!((words.as_slice(), answer.known.len()), (expected.as_slice(), 0));
    }

    #[test]
    fn a_policy_accepts_what_is_known_until_a_day() {
        let accept = |workload: &str, until: &str| {
            let (workload, until) = (workload.to_owned(), until.to_owned());
            Accepted { workload, skipped: false, reason: "nobody reads it".into(), until }
        };
        let judge = |other: &CellRecord, rule| {
            let policy = Policy { name: "fleet".into(), accept: vec![rule], ..Policy::own() };
            let mut record = record_of(vec![cell("a", "b", Outcome::Survived, ""), other.clone()]);
            record.run.started = "2026-11-28T00:00:00Z".into();
            let qualification = Qualification::of(&record, &policy).unwrap();
            (qualification.go(), qualification.text(&record.run))
        };
        let lost = known("memfd.name", Outcome::Lost);
        let (go, text) = judge(&lost, accept("memfd.n*", "2026-11-28"));
        let told = "accepted by the policy:\n  memfd.name on q35-intel: lost: why; accepted until 2026-11-28: nobody reads it\n";
        assert!(go && text.contains(told), "{text}");
        let (go, text) = judge(&lost, accept("memfd.name", "2026-11-27"));
        assert!(
            !go && text.contains("why; it was accepted until 2026-11-27: nobody reads it; known: as ever"),
            "{text}"
        );
        // Another workload, an end that nobody knows, a failure of luqual, a cell that was skipped.
        assert!(!judge(&lost, accept("memfd.seals", "2026-11-28")).0);
        for other in [
            ended_so("memfd.name", Outcome::Lost, None),
            ended_so("memfd.name", Outcome::Lost, Some(Outcome::Refused)),
            known("memfd.name", Outcome::HarnessFailed),
            known("memfd.name", Outcome::Skipped),
        ] {
            assert!(!judge(&other, accept("memfd.name", "2026-11-28")).0, "{other:?}");
        }
        let skipped = Accepted { skipped: true, ..accept("memfd.name", "2026-11-28") };
        assert!(judge(&known("memfd.name", Outcome::Skipped), skipped.clone()).0);
        assert!(!judge(&lost, skipped).0);
    }

    #[test]
    fn what_a_policy_requires_has_to_be_tested_as_often_as_it_says() {
        let record = record_of(vec![cell("a", "b", Outcome::Survived, "")]);
        let judge = |require: &[&str], repeat| {
            let require = require.iter().map(|glob| (*glob).to_owned()).collect();
            let policy = Policy { name: "fleet".into(), require, repeat, ..Policy::own() };
            let qualification = Qualification::of(&record, &policy).unwrap();
            (qualification.go(), qualification.text(&record.run))
        };
        assert!(judge(&["memfd.*"], Some(record.run.settings.repeat)).0);
        let (go, text) = judge(&["memfd.*", "vmm.*"], None);
        assert!(!go && text.contains("vmm.*: the policy fleet requires it, and no cell is of it"), "{text}");
        let (go, text) = judge(&["memfd.*"], Some(record.run.settings.repeat + 1));
        assert!(!go && text.contains("the policy fleet asks for"), "{text}");
        assert!(text.contains("fleet: requires memfd.*, accepts no loss"), "{text}");
    }

    #[test]
    fn the_worst_reason_is_first_and_what_a_kernel_said_is_text() {
        let of = |workload: &str, outcome, title| {
            let mut cell = cell("a", "b", outcome, title);
            cell.plan.key.workload = workload.into();
            cell.id = cell.plan.key.id();
            cell
        };
        let cells = vec![
            of("memfd.basic", Outcome::Incompatible, "KHO: <b>no</b>"),
            of("memfd.name", Outcome::Crashed, "panic"),
            of("vfio.x", Outcome::Skipped, "no VFIO"),
        ];
        let record = record_of(cells);
        let qualification = by_own(&record);
        assert!(qualification.answers[0].new[0].contains("crashed"), "{:?}", qualification.answers);
        assert_eq!(qualification.answers[0].untested, ["vfio.x on q35-intel: skipped: no VFIO"]);
        assert!(qualification.html(&record.run).contains("KHO: &lt;b&gt;no"));
    }
}
