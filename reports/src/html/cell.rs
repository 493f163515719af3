//! One cell of the page, with its evidence.

use super::marks::{class, mark, seconds};
use super::{frames, vm_reports};
use crate::brief::Brief;
use crate::frames::Strip;
use crate::words::{name, notes, standing};
use luqual_model::{CellRecord, PhaseEnd, Status};
use maud::{Markup, html as markup};
use std::collections::BTreeSet;

/// Access to the files in the cells' folders.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// Reads a file of a cell, if it exists.
    pub read: &'a dyn Fn(&CellRecord, &str) -> Option<String>,
    /// Whether the page is in the run's folder, so that it can link to the files.
    pub linked: bool,
}

/// How many of a console's last lines are shown.
const TAIL: usize = 60;

/// How many lines before and after a decisive one.
const AROUND: usize = 5;

/// Its line, and below it what is known: all of it with the evidence, else in few words.
pub(super) fn detail(
    cell: &CellRecord,
    repro: Option<String>,
    evidence: Option<Evidence<'_>>,
    is_open: bool,
) -> Markup {
    let brief = Brief::of(cell);
    markup! {
        details.cell id=(cell.id) data-outcome=(cell.outcome) data-status=(cell.status) open[is_open] {
            summary {
                span class=(format!("tag {}", class(&brief))) { (mark(&brief)) " " (brief.word()) }
                " " (name(&cell.plan.key))
                @if cell.status == Status::Unexpected { ", " (cell.status) }
                (standing(cell))
                @if !cell.title.is_empty() { " " code { (cell.title) } }
            }
            @if cell.injected.is_some() { p.injected { "A fault was injected: this says nothing about the kernels." } }
            p {
                (cell.status) ", decided in " (cell.phase) ", " (seconds(cell.duration_us))
                @if let Some(blackout) = &cell.blackout {
                    ", blackout " b { (blackout.duration_us / 1000) " ms" } " (± " (blackout.resolution_us / 1000) " ms)"
                }
                ", seed " (cell.seed)
            }
            @if let Some(prediction) = &cell.plan.prediction {
                @if cell.as_predicted() != Some(false) { p { "as predicted: " (prediction.why) } }
            }
            @for note in notes(cell) { p { (note) } }
            @if !cell.shared_with.is_empty() { p { "in one boot with " (cell.shared_with.join(", ")) } }
            @if !cell.attempts.is_empty() { (attempts(cell)) }
            @if let Some(command) = repro { p { "again: " code { (command) } } }
            @match evidence {
                Some(evidence) => (whole(cell, evidence)),
                None => (in_few_words(cell)),
            }
        }
    }
}

/// Phases, probes, what the console said, and where the rest is.
fn whole(cell: &CellRecord, evidence: Evidence<'_>) -> Markup {
    let mut probes: Vec<_> = cell.probes.iter().collect();
    probes.sort_by_key(|probe| probe.passed);
    let Evidence { read, linked } = evidence;
    let console = read(cell, "console.log");
    markup! {
        (timeline(cell))
        (vm_reports::told(cell))
        @if let Some(sent) = &cell.frames { (frames::of_cell(&Strip::of(sent))) }
        @if !probes.is_empty() { div.wide { table {
            tr { th scope="col" { "probe" } th scope="col" { "expected" } th scope="col" { "observed" } }
            @for probe in probes { tr class=(if probe.passed { "" } else { "lost" }) {
                td { (if probe.passed { "✓ " } else { "✗ " }) (probe.name) } td { (probe.expected) } td { (probe.observed) }
            } }
        } } }
        @if !cell.findings.is_empty() { div.wide { table {
            tr { @for title in ["console", "kernel", "line", "text"] { th scope="col" { (title) } } }
            @for finding in &cell.findings { tr class=(if finding.kind.taints() { "crashed" } else { "" }) {
                td { (finding.kind) } td { (finding.kernel()) } td { (finding.line) } td { code { (finding.text) } }
            } }
        } } }
        @if let Some(console) = &console { (console_of(cell, console)) }
        @if let Some(command) = read(cell, "command.txt") { details { summary { "QEMU's command line" } pre { (command) } } }
        p { "evidence in " (cell.folder) ": " @for name in &evidence_files(cell) {
            @if read(cell, name).is_some() {
                @if linked { a href=(format!("{}/{name}", cell.folder)) { (name) } " " } @else { (name) " " }
            }
        } }
    }
}

/// The names of the files that a cell can have, with the logs of the kernels before the last.
fn evidence_files(cell: &CellRecord) -> Vec<String> {
    const NAMES: [&str; 8] = [
        "console.log",
        "kmsg.log",
        "agent.jsonl",
        "qmp.jsonl",
        "qemu.stderr",
        "registers.txt",
        "vmcore.txt",
        "command.txt",
    ];
    let hops = cell.phases.iter().map(|phase| phase.hop).max().unwrap_or(0);
    let earlier = (0..hops).map(|hop| format!("kmsg-{hop}.log"));
    NAMES.into_iter().map(str::to_owned).chain(earlier).collect()
}

/// Ten thousand cells of which nothing is to be told are a page of some MiB only if they are told so.
fn in_few_words(cell: &CellRecord) -> Markup {
    let phases = cell.phases.iter().map(|phase| {
        let failed = match &phase.end {
            PhaseEnd::Done => String::new(),
            PhaseEnd::Failed(why) => format!(" ✗ {why}"),
        };
        format!("{} {} ms{failed}", phase.phase, phase.duration_us / 1000)
    });
    let passed = cell.probes.iter().filter(|probe| probe.passed).count();
    markup! {
        p { "phases: " (phases.collect::<Vec<_>>().join(", ")) }
        p { (passed) " of " (cell.probes.len()) " probes passed" }
        @if let Some(sent) = &cell.frames { p { "frames received: " (Strip::of(sent).in_words()) } }
        @for probe in cell.probes.iter().filter(|probe| !probe.passed) {
            p.lost { "✗ " (probe.name) ": expected " (probe.expected) ", observed " (probe.observed) }
        }
        @for finding in &cell.findings {
            div { (finding.kernel()) ", line " (finding.line) ": " code { (finding.text) } }
        }
        p { "evidence in " (cell.folder) }
    }
}

/// The decisive lines with what stands around them, and the last lines.
fn console_of(cell: &CellRecord, console: &str) -> Markup {
    let lines: Vec<&str> = console.lines().collect();
    // Findings count from 1; 0 is what only the kernel's own log had.
    let decisive: BTreeSet<usize> = cell.findings.iter().filter_map(|it| (it.line as usize).checked_sub(1)).collect();
    let around = decisive.iter().flat_map(|line| line.saturating_sub(AROUND)..=line + AROUND);
    let shown: BTreeSet<usize> =
        around.chain(lines.len().saturating_sub(TAIL)..lines.len()).filter(|line| *line < lines.len()).collect();
    let before = shown.iter().scan(0, |next, line| Some(*line - std::mem::replace(next, *line + 1)));
    markup! {
        details {
            summary { "the console: " (shown.len()) " of " (lines.len()) " lines; the decisive ones are marked" }
            pre { @for (number, left_out) in shown.iter().zip(before) {
                @if left_out > 0 { "… " (left_out) " lines …\n" }
                @if decisive.contains(number) { mark { (lines[*number]) } } @else { (lines[*number]) } "\n"
            } }
        }
    }
}

fn attempts(cell: &CellRecord) -> Markup {
    markup! {
        div.wide { table {
            tr { @for title in ["attempt", "outcome", "why", "took", "blackout", "seed"] { th scope="col" { (title) } } }
            @for (number, attempt) in cell.attempts.iter().enumerate() { tr {
                td { (number + 1) @if attempt.retry { ", a retry" } }
                td { (attempt.outcome) @if attempt.tainted { "+tainted" } } td { (attempt.title) }
                td { (seconds(attempt.duration_us)) }
                td { @if let Some(blackout) = &attempt.blackout { (blackout.duration_us / 1000) " ms" } }
                td { (attempt.seed) }
            } }
        } }
    }
}

fn timeline(cell: &CellRecord) -> Markup {
    let whole = cell.duration_us.max(1) as f64;
    let percent = |us: u64| format!("{:.2}%", us as f64 * 100.0 / whole);
    markup! {
        @for phase in &cell.phases {
            @let failed = match &phase.end { PhaseEnd::Done => None, PhaseEnd::Failed(why) => Some(why) };
            div.phase {
                span { (phase.phase) @if failed.is_some() { " ✗" } }
                span.track { span class=(if failed.is_some() { "bar failed" } else { "bar" })
                    style=(format!("left:{};width:{}", percent(phase.started_us), percent(phase.duration_us))) {} }
                span.time { (phase.duration_us / 1000) " ms" }
                @if let Some(why) = failed { span.why { (why) } }
            }
        }
        (vm_reports::stood(cell, percent))
    }
}
