//! One page that needs nothing else: the grid, the kernels, and each cell with its evidence.
//!
//! Everything that a guest said is text, never markup: maud escapes it.

use crate::brief::Brief;
use crate::grid::{Grid, Square, grids};
use crate::record::Record;
use luqual_model::{CellRecord, Outcome, PhaseEnd, Status};
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};
use std::io::{self, Write};

/// Reads a file of a cell's folder, if it is there.
pub(crate) type Evidence<'a> = &'a dyn Fn(&CellRecord, &str) -> Option<String>;

/// How many of a console's last lines are shown.
const TAIL: usize = 60;

/// Consoles of a larger run are left to the files beside the page, but for the cells that one wants to read: at some
/// 10 KiB for each cell the page is then a few MiB.
const LARGE: usize = 200;

/// Of a larger run only the cells that one wants to read are listed, and no more of them than this: a browser still
/// filters so many without a pause. The grid has all.
const HUGE: usize = 10_000;

/// Writes the page, a cell at a time.
pub fn html(record: &Record, evidence: Evidence<'_>, to: &mut dyn Write) -> io::Result<()> {
    let count = record.ended().count();
    let mut listed: Vec<usize> = record.ended().collect();
    let wanted = |number: &usize| record.brief(*number).is_some_and(|brief| brief.needs_attention());
    if count > HUGE {
        listed.retain(wanted);
    }
    // Stable: of what is equally urgent, the first comes first.
    listed.sort_by_key(|number| record.brief(*number).map(|brief| brief.urgency()));
    listed.truncate(HUGE);

    write!(to, "{}<html lang=\"en\">{}<body>", DOCTYPE.into_string(), head(record).into_string())?;
    to.write_all(about(record).into_string().as_bytes())?;
    for grid in &grids(record) {
        to.write_all(drawn(record, grid, count <= HUGE).into_string().as_bytes())?;
    }
    to.write_all(kernels(record).into_string().as_bytes())?;
    to.write_all(filters(record, &listed, count).into_string().as_bytes())?;
    for number in &listed {
        let cell = record.cell(*number)?;
        let nothing: Evidence<'_> = &|_, _| None;
        let evidence = if count <= LARGE || wanted(number) { evidence } else { nothing };
        to.write_all(detail(&cell, evidence).into_string().as_bytes())?;
    }
    write!(to, "{}</body></html>", markup! { script { (PreEscaped(SCRIPT)) } }.into_string())
}

fn head(record: &Record) -> Markup {
    markup! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { "luqual " (record.run.id) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// What was run, where, and what came of it.
fn about(record: &Record) -> Markup {
    let (run, host, totals) = (&record.run, &record.run.host, record.totals());
    let planted = record.briefs().any(|(_, brief)| brief.is_some_and(|brief| brief.planted));
    markup! {
        h1 { "luqual run " (run.id) }
        @if planted { p.planted { "Faults were planted in this run on purpose: it says nothing about its kernels." } }
        p {
            @for (outcome, count) in &totals.by_outcome { span class=(format!("tag {outcome}")) { (count) " " (outcome) } " " }
            @if totals.not_run > 0 { span.tag { (totals.not_run) " not run" } }
            @if run.interrupted { " The run was interrupted." }
        }
        dl {
            dt { "started" } dd { (run.started) }
            dt { "took" } dd { @match run.duration_us { Some(us) => (seconds(us)), None => "not ended" } }
            dt { "command" } dd { code { (run.command.join(" ")) } }
            dt { "tool" } dd { (run.tool) }
            dt { "host" } dd { (host.arch) ", Linux " (host.release) ", " (host.cpus) " CPUs, " (host.memory >> 30) " GiB" }
            dt { "QEMU" } dd { (host.qemu) ", " (host.accel) " (" (host.accel_reason) ")" }
        }
        h2 { "Grid" }
    }
}

fn kernels(record: &Record) -> Markup {
    markup! {
        h2 { "Kernels" }
        div.wide { table {
            tr { th { "name" } th { "release" } th { "ABI strings" } th { "abilities" } th { "build id" } th { "provenance" } }
            @for info in record.run.kernels.values() { tr {
                td { (info.name) } td { (info.release) }
                td { (info.abi.as_ref().map_or_else(|| "unknown".to_owned(), |abi| abi.join(", "))) }
                td { (info.abilities.as_ref().map_or_else(|| "unknown".to_owned(), words)) }
                td.long { code { (info.build_id.as_deref().unwrap_or("unknown")) } }
                td.long { (info.provenance) }
            } }
        } }
        (crate::kernels::listed(record.run.kernels.values()))
    }
}

fn filters(record: &Record, listed: &[usize], count: usize) -> Markup {
    let mut outcomes = std::collections::BTreeMap::<Outcome, usize>::new();
    listed
        .iter()
        .filter_map(|number| record.brief(*number))
        .for_each(|it| *outcomes.entry(it.outcome).or_default() += 1);
    markup! {
        h2 { "Cells" }
        @if listed.len() < count {
            p { "Of " (count) " cells these " (listed.len()) " need attention; the grid and run.json have all." }
        }
        p.filters {
            label { "filter " input type="search" id="filter" placeholder="7.3.4 memfd"; }
            @for (outcome, count) in outcomes {
                label class=(outcome) { input type="checkbox" checked value=(outcome); " " (outcome) " (" (count) ")" }
            }
            span id="shown" {}
        }
    }
}

fn words<T: std::fmt::Display>(items: &std::collections::BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn drawn(record: &Record, grid: &Grid<'_>, linked: bool) -> Markup {
    markup! {
        div.wide { table.grid {
            caption { (grid.workload) " on " (grid.profile) }
            tr { th { "source ↓ target →" } @for target in &grid.targets { th { (target) } } }
            @for row in &grid.rows { tr {
                th { (row.source) }
                @for square in &row.squares { @match square {
                    Square::Ended(number, brief) => td class=(brief.outcome) {
                        @if linked || brief.needs_attention() {
                            a href=(format!("#{}", record.run.planned[*number].key.id())) { (mark(brief)) " " (brief.word()) }
                        } @else { (mark(brief)) " " (brief.word()) }
                    },
                    Square::NotRun(_) => td { "not run" },
                    Square::Empty => td {},
                } }
            } }
        } }
    }
}

/// Colour is never the only carrier.
fn mark(brief: &Brief) -> &'static str {
    match brief.outcome {
        Outcome::Survived if !brief.tainted => "✓",
        Outcome::Survived => "!",
        Outcome::Lost => "✗",
        Outcome::Incompatible | Outcome::Refused => "≠",
        Outcome::Crashed => "☠",
        Outcome::Skipped => "–",
        Outcome::HarnessFailed => "?",
    }
}

fn detail(cell: &CellRecord, evidence: Evidence<'_>) -> Markup {
    let (key, brief) = (&cell.plan.key, Brief::of(cell));
    let mut probes: Vec<_> = cell.probes.iter().collect();
    probes.sort_by_key(|probe| probe.held);
    let console = evidence(cell, "console.log");
    let lines: Vec<&str> = console.as_deref().unwrap_or_default().lines().collect();
    let first = lines.len().saturating_sub(TAIL);
    let decisive = |number: usize| cell.findings.iter().any(|finding| finding.line == number as u64 + 1);
    markup! {
        details.cell id=(cell.id) data-outcome=(cell.outcome) open[cell.status != Status::Expected] {
            summary {
                span class=(format!("tag {}", cell.outcome)) { (mark(&brief)) " " (brief.word()) }
                " " (key.source) " → " (key.target) " " (key.workload) " on " (key.profile)
            }
            @if let Some(fault) = &cell.planted { p.planted { "A fault was planted on purpose: " code { (fault) } } }
            @if !cell.title.is_empty() { p.title { code { (cell.title) } } }
            p {
                (cell.status) ", decided in " (cell.phase) ", " (seconds(cell.duration_us))
                @if let Some(blackout) = &cell.blackout {
                    ", blackout " b { (blackout.duration_us / 1000) " ms" } " (± " (blackout.resolution_us / 1000) " ms)"
                }
            }
            @if let Some(prediction) = &cell.plan.prediction {
                p class=(if cell.as_predicted() == Some(false) { "planted" } else { "" }) {
                    "predicted " b { (prediction.outcome) } " (" (prediction.why) "), observed " b { (brief.word()) }
                }
            }
            @if let Some(expected) = &cell.plan.expectation {
                p { "expected " b { (expected.outcome) } ": " (expected.reason)
                    @if let Some(link) = &expected.link { " (" (link) ")" } }
            }
            @if !cell.shared_with.is_empty() { p { "in one boot with " (cell.shared_with.join(", ")) } }
            @if let Some(rate) = cell.rate() { p { (rate) } (attempts(cell)) }
            (timeline(cell))
            @if !probes.is_empty() { div.wide { table {
                tr { th { "probe" } th { "expected" } th { "observed" } }
                @for probe in probes { tr class=(if probe.held { "" } else { "lost" }) {
                    td { (if probe.held { "✓ " } else { "✗ " }) (probe.name) } td { (probe.expected) } td { (probe.observed) }
                } }
            } } }
            @if !cell.findings.is_empty() { div.wide { table {
                tr { th { "console" } th { "side" } th { "line" } th { "text" } }
                @for finding in &cell.findings { tr class=(if finding.kind.taints() { "crashed" } else { "" }) {
                    td { (finding.kind) } td { (finding.side) } td { (finding.line) } td { code { (finding.text) } }
                } }
            } } }
            @if !lines.is_empty() { details {
                summary { "the console's last " (lines.len() - first) " lines" }
                pre { @for (number, line) in lines.iter().enumerate().skip(first) {
                    @if decisive(number) { mark { (line) } } @else { (line) } "\n"
                } }
            } }
            @if let Some(command) = evidence(cell, "command.txt") { details { summary { "QEMU's command line" } pre { (command) } } }
            p { "evidence: " @for name in ["console.log", "kmsg.log", "agent.jsonl", "qmp.jsonl", "qemu.stderr", "registers.txt", "command.txt"] {
                @if evidence(cell, name).is_some() { a href=(format!("{}/{name}", cell.folder)) { (name) } " " }
            } }
        }
    }
}

fn attempts(cell: &CellRecord) -> Markup {
    markup! {
        div.wide { table {
            tr { th { "attempt" } th { "outcome" } th { "why" } th { "took" } th { "blackout" } }
            @for (number, attempt) in cell.attempts.iter().enumerate() { tr {
                td { (number + 1) } td { (attempt.outcome) @if attempt.tainted { "+tainted" } } td { (attempt.title) }
                td { (seconds(attempt.duration_us)) }
                td { @if let Some(blackout) = &attempt.blackout { (blackout.duration_us / 1000) " ms" } }
            } }
        } }
    }
}

fn timeline(cell: &CellRecord) -> Markup {
    let whole = cell.duration_us.max(1) as f64;
    let percent = |us: u64| format!("{:.2}%", us as f64 * 100.0 / whole);
    markup! {
        div.timeline {
            @for phase in &cell.phases {
                @let failed = match &phase.end { PhaseEnd::Done => None, PhaseEnd::Failed(why) => Some(why) };
                div.phase title=(failed.map_or("", String::as_str)) {
                    span.name { (phase.phase) @if failed.is_some() { " ✗" } }
                    span.track { span class=(if failed.is_some() { "bar crashed" } else { "bar" })
                        style=(format!("left:{};width:{}", percent(phase.started_us), percent(phase.duration_us))) {} }
                    span.time { (phase.duration_us / 1000) " ms" }
                }
            }
        }
    }
}

fn seconds(us: u64) -> String {
    format!("{:.1} s", us as f64 / 1e6)
}

/// Shows the cells that have every word of the filter and an outcome that is ticked; opens the one that is linked to.
const SCRIPT: &str = "
const cells=[...document.querySelectorAll('details.cell')],filter=document.getElementById('filter');
const boxes=[...document.querySelectorAll('.filters input[type=checkbox]')];
const names=cells.map(cell=>cell.querySelector('summary').textContent.toLowerCase());
function show(){const words=filter.value.toLowerCase().split(/\\s+/).filter(Boolean);
const on=new Set(boxes.filter(box=>box.checked).map(box=>box.value));let count=0;
cells.forEach((cell,at)=>{const fits=on.has(cell.dataset.outcome)&&words.every(word=>names[at].includes(word));
cell.hidden=!fits;count+=fits});
document.getElementById('shown').textContent=count+' of '+cells.length+' shown'}
function go(){const cell=document.getElementById(decodeURIComponent(location.hash.slice(1)));
if(cell&&cell.matches('details')){cell.hidden=false;cell.open=true;cell.scrollIntoView()}}
filter.addEventListener('input',show);boxes.forEach(box=>box.addEventListener('change',show));
addEventListener('hashchange',go);show();go();
";

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884;--good:light-dark(#2a7d3f,#6cc982);--bad:light-dark(#b3261e,#ff8a80);--warn:light-dark(#8a5d00,#e3b341);--off:light-dark(#666,#aaa)}
body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:1.5rem auto;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:1.6rem}
code,pre{font:12.5px/1.4 ui-monospace,monospace}pre{overflow-x:auto;border:1px solid var(--line);padding:.5rem}
table{border-collapse:collapse}td,th{border:1px solid var(--line);padding:.2rem .5rem;text-align:left;vertical-align:top}
caption{text-align:left;padding:.2rem 0}.wide{overflow-x:auto;margin:.5rem 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}dt{color:var(--off)}dd{margin:0;overflow-wrap:anywhere}
details{border-top:1px solid var(--line);padding:.4rem 0}details details{border:0}summary{cursor:pointer}
.tag{border:1px solid;border-radius:3px;padding:0 .35rem}
.long{overflow-wrap:anywhere;min-width:10rem}.grid a{color:inherit;text-decoration:none}
.survived{color:var(--good)}.lost,.crashed{color:var(--bad)}.incompatible,.refused{color:var(--warn)}
.skipped,.harness-failed{color:var(--off)}td.survived{background:#2a7d3f22}td.lost,td.crashed{background:#b3261e22}
td.incompatible,td.refused{background:#9a670022}td.skipped,td.harness-failed{background:#8882}
.filters label{margin-right:.8rem;white-space:nowrap}[hidden]{display:none}
.planted{border:2px solid var(--warn);padding:.4rem;color:var(--warn)}
.phase{display:grid;grid-template-columns:6rem 1fr 5rem;gap:.5rem;align-items:center}.time{text-align:right}
.track{position:relative;height:.7rem;background:#8882}.bar{position:absolute;height:100%;min-width:2px;background:#4c7bd9}
.bar.crashed{background:var(--bad)}mark{background:#ffd54a;color:#000}
";

#[cfg(test)]
mod browser;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, cells, record, record_of};

    fn page_of(record: &Record) -> String {
        let mut page = Vec::new();
        let console = |_: &CellRecord, name: &str| (name == "console.log").then(|| "[    1.0] <b>line</b>\n".repeat(3));
        html(record, &console, &mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    fn page() -> String {
        page_of(&record())
    }

    #[test]
    fn what_a_guest_says_is_text() {
        let page = page();
        assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert(1)"));
        assert!(!page.contains("<b>line") && page.contains("&lt;b&gt;line"));
    }

    #[test]
    fn every_cell_is_linked_from_the_grid_and_every_outcome_named() {
        let page = page();
        for cell in cells() {
            assert!(page.contains(&format!("href=\"#{}\"", cell.id)) && page.contains(&format!("id=\"{}\"", cell.id)));
            assert!(page.contains(cell.outcome.word()));
        }
        assert!(page.contains("planted on purpose: <code>flip:64m:3:17"));
    }

    #[test]
    fn of_a_huge_run_what_needs_attention_is_listed() {
        let mut many: Vec<CellRecord> =
            (0..=HUGE).map(|n| cell("a", &format!("b{n}"), Outcome::Survived, "")).collect();
        many[7] = cell("a", "b7", Outcome::Lost, "x");
        let page = page_of(&record_of(many));
        assert_eq!(page.matches("<details class=\"cell\"").count(), 1);
        assert!(page.contains("href=\"#a_b7_") && !page.contains("href=\"#a_b8_"));
        assert!(page.contains("Of 10001 cells these 1 need attention"));
    }

    #[test]
    fn the_page_asks_nobody_for_anything() {
        let page = page();
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
    }
}
