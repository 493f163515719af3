//! One page: may a host that runs this be live-updated to that?

use crate::brief::Brief;
use crate::record::Record;
use crate::words::line;
use luqual_model::{CellRecord, Outcome, RunInfo, Status, plain};
use maud::{DOCTYPE, PreEscaped, html as markup};
use std::fmt::Write;
use std::io;

/// GO, or why not. Made by a run of one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qualification {
    /// What survived, untainted, every time: workload, and how often.
    survived: Vec<String>,
    /// Why not, worst first.
    reasons: Vec<String>,
    /// What could not be tested, and why.
    untested: Vec<String>,
    /// What was not to be tested, and why.
    left_out: Vec<String>,
}

impl Qualification {
    /// Judges a run. Expectations play no part: what is known to fail fails.
    pub fn of(record: &Record) -> io::Result<Self> {
        let (mut survived, mut failed, mut untested) = (Vec::new(), Vec::new(), Vec::new());
        for cell in record.cells() {
            let cell = cell?;
            match cell.outcome {
                _ if Brief::of(&cell).clean() => survived.push(format!("{}: {}", name(&cell), times(&cell))),
                Outcome::Skipped | Outcome::HarnessFailed => {
                    untested.push(format!("{}: {}: {}", name(&cell), cell.outcome, cell.title));
                }
                _ => failed.push(cell),
            }
        }
        if let Some(fault) = &record.run.settings.inject {
            untested.push(format!("{fault} was injected: the result says nothing about the kernels"));
        }
        if record.run.interrupted {
            untested.push("the run was interrupted".to_owned());
        }
        for planned in record.left() {
            untested.push(format!("{} on {}: not run", planned.key.workload, planned.key.profile));
        }
        // Stable: of what is equally bad, the first comes first.
        failed.sort_by_key(|cell| std::cmp::Reverse(cell.outcome.severity()));
        let reasons = failed.iter().map(reason).collect();
        Ok(Self { survived, reasons, untested, left_out: Vec::new() })
    }

    /// Names what was not to be tested, and why. It does not change the answer.
    pub fn leaving_out(self, left_out: Vec<String>) -> Self {
        Self { left_out, ..self }
    }

    /// Whether the update may be done: something was tested, all of it, and all of it survived.
    pub fn go(&self) -> bool {
        self.reasons.is_empty() && self.untested.is_empty() && !self.survived.is_empty()
    }

    fn word(&self) -> &'static str {
        if self.go() { "GO" } else { "NO-GO" }
    }

    fn parts(&self) -> [(&'static str, &[String]); 4] {
        [
            ("reasons, worst first", &self.reasons),
            ("not tested", &self.untested),
            ("survived", &self.survived),
            ("left out, so that nothing is known of it", &self.left_out),
        ]
    }

    /// The page as text.
    pub fn text(&self, run: &RunInfo) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}: live update {}", self.word(), line(&pair(run)));
        for (title, lines) in self.parts().into_iter().filter(|(_, lines)| !lines.is_empty()) {
            let _ = writeln!(text, "\n{title}:");
            for told in lines {
                let _ = writeln!(text, "  {}", line(told));
            }
        }
        text.push('\n');
        for (name, value) in facts(run) {
            let _ = writeln!(text, "{}", line(&format!("{name:<12} {value}")));
        }
        text
    }

    /// The page, to print or to attach.
    pub fn html(&self, run: &RunInfo) -> String {
        let page = markup! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.word()) " " (pair(run)) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    p.word.go[self.go()] { (self.word()) }
                    h1 { "Live update " (pair(run)) }
                    @for (title, lines) in self.parts().into_iter().filter(|(_, lines)| !lines.is_empty()) {
                        h2 { (title) }
                        ul { @for line in lines { li { (line) } } }
                    }
                    h2 { "how it was tested" }
                    dl { @for (name, value) in facts(run) { dt { (name) } dd { (value) } } }
                }
            }
        };
        plain::lines(&page.into_string())
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

/// The only pair of the run.
fn pair(run: &RunInfo) -> String {
    run.planned.first().map_or_else(String::new, |planned| format!("{} → {}", planned.key.source, planned.key.target))
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
                .starts_with("NO-GO: live update 7.2.12 → 7.3.4\n\nreasons, worst first:\n")
        );
    }

    #[test]
    fn the_worst_reason_is_first_and_what_a_kernel_said_is_text() {
        let cells = vec![
            cell("a", "b", Outcome::Incompatible, "KHO: <b>no</b>"),
            cell("a", "c", Outcome::Crashed, "panic"),
            cell("a", "d", Outcome::Skipped, "no VFIO"),
        ];
        let record = record_of(cells);
        let qualification = Qualification::of(&record).unwrap();
        assert!(qualification.reasons[0].contains("crashed"), "{:?}", qualification.reasons);
        assert_eq!(qualification.untested, ["memfd.basic on q35-intel: skipped: no VFIO"]);
        assert!(qualification.html(&record.run).contains("KHO: &lt;b&gt;no"));
    }
}
