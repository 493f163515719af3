//! One page: may a host that runs this be live-updated to that, and back?

use crate::brief::Brief;
use crate::record::Record;
use crate::words::line;
use luqual_model::{CellKey, CellRecord, Outcome, RunInfo, Status, plain};
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
}

/// The answer for a pair of kernels.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Answer {
    /// What the pair is.
    title: String,
    /// What survived, untainted, every time: workload, and how often.
    survived: Vec<String>,
    /// Why not, worst first.
    reasons: Vec<String>,
    /// What could not be tested, and why.
    untested: Vec<String>,
}

/// The names of a source and a target.
type Pair<'a> = (&'a str, &'a str);

impl Qualification {
    /// Judges a run. Expectations play no part: what is known to fail fails.
    pub fn of(record: &Record) -> io::Result<Self> {
        let mut answers: Vec<(Pair<'_>, Answer)> = Vec::new();
        for planned in &record.run.planned {
            let pair = pair_of(&planned.key);
            if answer_of(&mut answers, &planned.key).is_none() {
                let update = answers.first().map_or(pair, |(update, _)| *update);
                answers.push((pair, Answer { title: title(pair, update), ..Answer::default() }));
            }
        }
        let mut failed = Vec::new();
        for cell in record.cells() {
            let cell = cell?;
            let Some(answer) = answer_of(&mut answers, &cell.plan.key) else { continue };
            match cell.outcome {
                _ if Brief::of(&cell).clean() => answer.survived.push(format!("{}: {}", name(&cell), times(&cell))),
                Outcome::Skipped | Outcome::HarnessFailed => {
                    answer.untested.push(format!("{}: {}: {}", name(&cell), cell.outcome, cell.title));
                }
                _ => failed.push(cell),
            }
        }
        // Stable: of what is equally bad, the first comes first.
        failed.sort_by_key(|cell| Reverse(cell.outcome.severity()));
        for cell in &failed {
            if let Some(answer) = answer_of(&mut answers, &cell.plan.key) {
                answer.reasons.push(reason(cell));
            }
        }
        let fault = record.run.settings.inject.as_ref();
        let fault = fault.map(|fault| format!("{fault} was injected: the result says nothing about the kernels"));
        let interrupted = record.run.interrupted.then(|| "the run was interrupted".to_owned());
        for (_, answer) in &mut answers {
            answer.untested.extend(fault.iter().chain(&interrupted).cloned());
        }
        for planned in record.left() {
            if let Some(answer) = answer_of(&mut answers, &planned.key) {
                answer.untested.push(format!("{} on {}: not run", planned.key.workload, planned.key.profile));
            }
        }
        Ok(Self { answers: answers.into_iter().map(|(_, answer)| answer).collect(), left_out: Vec::new() })
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
        for (name, value) in facts(run) {
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
                    dl { @for (name, value) in facts(run) { dt { (name) } dd { (value) } } }
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
        self.reasons.is_empty() && self.untested.is_empty() && !self.survived.is_empty()
    }

    fn word(&self) -> &'static str {
        if self.go() { GO } else { NO_GO }
    }

    /// The parts of the page that are not empty.
    fn parts(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        let parts = [
            ("reasons, worst first", self.reasons.as_slice()),
            ("not tested", &self.untested),
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

fn reason(cell: &CellRecord) -> String {
    let rate = cell.rate().map_or_else(String::new, |rate| format!(" ({rate})"));
    let flaky = if cell.status == Status::Flaky { ", not every time" } else { "" };
    format!("{}: {}{flaky}: {}{rate}", name(cell), Brief::of(cell).word(), cell.title)
}

fn facts(run: &RunInfo) -> Vec<(String, String)> {
    let host = &run.host;
    let mut facts: Vec<(String, String)> = run
        .kernels
        .values()
        .map(|info| (format!("kernel {}", info.name), format!("{}, sha256 {}", info.provenance, info.image_sha256)))
        .collect();
    facts.extend(crate::kernels::facts(run.kernels.values()));
    if let Some(fault) = &run.settings.inject {
        facts.push(("INJECTED".to_owned(), format!("{fault}: an injected fault; this says nothing about the kernels")));
    }
    facts.push(("repetitions".to_owned(), run.settings.repeat.to_string()));
    facts.push(("command".to_owned(), run.command.join(" ")));
    facts.push(("machine".to_owned(), format!("QEMU {} with {} ({})", host.qemu, host.accel, host.accel_reason)));
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

    fn judged(cells: Vec<CellRecord>) -> Qualification {
        Qualification::of(&record_of(cells)).unwrap()
    }

    #[test]
    fn each_pair_has_an_answer_of_its_own() {
        let cells = vec![
            cell("a", "b", Outcome::Survived, ""),
            cell("b", "a", Outcome::Incompatible, "KHO: no"),
            cell("a", "a", Outcome::Survived, ""),
        ];
        let record = record_of(cells);
        let qualification = Qualification::of(&record).unwrap();
        assert!(!qualification.go());
        let text = qualification.text(&record.run);
        let told = "GO: live update a → b\nNO-GO: the way back, b → a\nGO: a into itself\n\nGO: live update a → b\n\nsurvived:\n";
        assert!(text.starts_with(told), "{text}");
        let back = text.split("\nNO-GO: the way back, b → a\n\n").nth(1).unwrap();
        assert!(
            back.starts_with("reasons, worst first:\n  memfd.basic on q35-intel: incompatible: KHO: no\n"),
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
        assert!(Qualification::of(&record).unwrap().go());
        record.run.settings.inject = Some("flip-unpreserved".into());
        assert!(!Qualification::of(&record).unwrap().go());
        record.run.settings.inject = None;
        record.run.interrupted = true;
        assert!(!Qualification::of(&record).unwrap().go());
    }

    #[test]
    fn nothing_tested_or_not_all_tested_is_no_go() {
        assert!(!judged(Vec::new()).go());
        let (ended, left) = (cell("a", "b", Outcome::Survived, ""), cell("a", "c", Outcome::Survived, ""));
        let cut_off = written(vec![ended.plan.clone(), left.plan], vec![ended]);
        assert!(!Qualification::of(&cut_off).unwrap().go());
    }

    #[test]
    fn nothing_that_a_kernel_said_moves_the_cursor() {
        let mut record = record_of(vec![cell("a\u{1b}[2J", "b", Outcome::Crashed, "panic\u{1b}[2J\r")]);
        record.run.command.push("\u{1b}[2J".into());
        let text = Qualification::of(&record).unwrap().text(&record.run);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn what_was_left_out_is_named_and_changes_nothing() {
        let left_out = vec!["it takes minutes: lifecycle.hundred".to_owned()];
        let record = record_of(vec![cell("a", "b", Outcome::Survived, "")]);
        let qualification = Qualification::of(&record).unwrap().leaving_out(left_out);
        assert!(qualification.go());
        for page in [qualification.text(&record.run), qualification.html(&record.run)] {
            assert!(page.contains("left out") && page.contains("it takes minutes: lifecycle.hundred"), "{page}");
        }
    }

    #[test]
    fn an_expected_failure_is_a_failure() {
        let mut known = cell("a", "b", Outcome::Incompatible, "KHO: no");
        known.status = Status::Expected;
        let qualification = judged(vec![known]);
        assert!(
            qualification
                .text(&crate::samples::record().run)
                .starts_with("NO-GO: live update a → b\n\nreasons, worst first:\n")
        );
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
        let qualification = Qualification::of(&record).unwrap();
        assert!(qualification.answers[0].reasons[0].contains("crashed"), "{:?}", qualification.answers);
        assert_eq!(qualification.answers[0].untested, ["vfio.x on q35-intel: skipped: no VFIO"]);
        assert!(qualification.html(&record.run).contains("KHO: &lt;b&gt;no"));
    }
}
