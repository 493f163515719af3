//! One page that needs nothing else: the grid, the kernels, and each cell with its evidence.
//!
//! Everything that a guest said is text, never markup: maud escapes it.

use crate::brief::Brief;
use crate::devices::Devices;
use crate::grid::{Grid, Square, grids};
use crate::record::Record;
use crate::words::repro;
use luqual_model::{Outcome, ProgramFile, ProgramInfo, Status, plain};
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};
use std::collections::BTreeMap;
use std::io::{self, Write};

mod cell;
mod devices;
mod frames;
mod marks;
mod vm_reports;

pub use cell::Evidence;
use marks::{class, mark, seconds};

/// So many cells have all of their evidence in the page, at some 15 KiB each; of a larger run those that one wants to
/// read.
const WHOLE: usize = 200;

/// So many of those that need attention are open when the page is.
const OPEN: usize = 20;

/// More grids than that are folded.
const GRIDS: usize = 10;

/// Of a larger run only the cells that one wants to read are listed, and no more of them than this: a browser still
/// filters so many without a pause. The grid has all.
const HUGE: usize = 10_000;

/// Writes the page, a cell at a time.
pub fn html(record: &Record, evidence: Evidence<'_>, to: &mut dyn Write) -> io::Result<()> {
    let mut put = |text: String| to.write_all(plain::lines(&text).as_bytes());
    let count = record.ended().count();
    let mut listed: Vec<usize> = record.ended().collect();
    let wanted = |number: &usize| record.brief(*number).is_some_and(|brief| brief.needs_attention());
    if count > HUGE {
        listed.retain(wanted);
    }
    // Stable: of what is equally urgent, the first comes first.
    listed.sort_by_key(|number| record.brief(*number).map(|brief| brief.urgency()));
    listed.truncate(HUGE);

    put(format!("{}<html lang=\"en\">{}<body>", DOCTYPE.into_string(), head(record).into_string()))?;
    put(about(record).into_string())?;
    let grids = grids(record);
    let folded = grids.len() > GRIDS;
    if folded {
        put(format!("<details><summary>{} grids</summary>", grids.len()))?;
    }
    for grid in &grids {
        put(drawn(record, grid, count <= HUGE).into_string())?;
    }
    put(if folded { "</details>" } else { "" }.to_owned())?;
    put(devices::devices(&Devices::of(&[record])?).into_string())?;
    put(kernels(record).into_string())?;
    put(filters(record, &listed, count).into_string())?;
    let (mut urgent, mut whole) = (0, 0);
    for number in &listed {
        let cell = record.cell(*number)?;
        urgent += usize::from(wanted(number));
        let is_whole = whole < WHOLE && (count <= WHOLE || wanted(number));
        whole += usize::from(is_whole);
        let evidence = is_whole.then_some(evidence);
        let is_open = wanted(number) && urgent <= OPEN;
        put(cell::detail(&cell, repro(record, &cell), evidence, is_open).into_string())?;
    }
    put(format!("{}</body></html>", markup! { script { (PreEscaped(include_str!("html/page.js"))) } }.into_string()))
}

fn head(record: &Record) -> Markup {
    markup! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { "luqual " (record.run.id) }
            style { (PreEscaped(include_str!("html/page.css"))) }
        }
    }
}

/// What was run, where, and what came of it.
fn about(record: &Record) -> Markup {
    let (run, host, totals) = (&record.run, &record.run.host, record.totals());
    let injected = record.briefs().any(|(_, brief)| brief.is_some_and(|brief| brief.injected));
    markup! {
        h1 { "luqual run " (run.id) }
        @if injected { p.injected { "Faults were injected into this run: it says nothing about its kernels." } }
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
        details { summary { (record.run.kernels.keys().map(String::as_str).collect::<Vec<_>>().join(", ")) } div.wide { table {
            tr { @for title in ["name", "release", "ABI strings", "abilities", "build id", "provenance", "image sha256", "command line"] {
                th scope="col" { (title) }
            } }
            @for info in record.run.kernels.values() { tr {
                td { (info.name) } td { (info.release) }
                td { (info.abi.as_ref().map_or_else(|| "unknown".to_owned(), |abi| abi.join(", "))) }
                td { (info.capabilities.as_ref().map_or_else(|| "unknown".to_owned(), words)) }
                td.long { code { (info.build_id.as_deref().unwrap_or("unknown")) } }
                td.long { (info.provenance) }
                td.long { code { (info.image_sha256) } } td.long { code { (info.command_line) } }
            } }
        } } }
        (crate::kernels::listed(record.run.kernels.values()))
        @if !record.run.programs.is_empty() { (programs(&record.run.programs)) }
    }
}

/// Somebody's programs, which were workloads.
fn programs(programs: &BTreeMap<String, ProgramInfo>) -> Markup {
    markup! {
        h3 { "Programs" }
        div.wide { table {
            tr { @for title in ["workload", "origin", "sha256"] { th scope="col" { (title) } } }
            @for (name, ProgramInfo { origin, file, .. }) in programs { tr {
                td { (name) } td.long { (origin) }
                td.long { @match file {
                    ProgramFile::Here { sha256, .. } => code { (sha256) },
                    ProgramFile::Missing { why } => (why),
                } }
            } }
        } }
    }
}

fn filters(record: &Record, listed: &[usize], count: usize) -> Markup {
    let (mut outcomes, mut statuses) = (BTreeMap::<Outcome, usize>::new(), BTreeMap::<Status, usize>::new());
    for brief in listed.iter().filter_map(|number| record.brief(*number)) {
        *outcomes.entry(brief.outcome).or_default() += 1;
        *statuses.entry(brief.status).or_default() += 1;
    }
    let left = record.totals().not_run;
    markup! {
        h2 { "Cells" }
        @if listed.len() < count {
            p { (listed.len()) " of " (count) " cells need attention, and only these are listed; the grid and run.json have all." }
        }
        p.filters {
            label { "filter " input type="search" id="filter" placeholder="7.3.4 memfd"; }
            @for (outcome, count) in outcomes { (ticked(outcome.word(), outcome.word(), count)) }
            @for (status, count) in statuses { (ticked(status.word(), "", count)) }
            span id="shown" aria-live="polite" {}
            @if left > 0 { ", " (left) " not run" }
        }
    }
}

fn ticked(word: &str, class: &str, count: usize) -> Markup {
    markup! { label class=(class) { input type="checkbox" checked value=(word); " " (word) " (" (count) ")" } }
}

fn words<T: std::fmt::Display>(items: &std::collections::BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn drawn(record: &Record, grid: &Grid<'_>, linked: bool) -> Markup {
    markup! {
        p { (grid.workload) " on " (grid.profile) }
        div.wide.grid-frame { table.grid {
            tr { th scope="col" { "source ↓ target →" } @for target in &grid.targets { th scope="col" { (target) } } }
            @for row in &grid.rows { tr {
                th scope="row" { (row.source) }
                @for square in &row.squares { @match square {
                    Square::Ended(number, brief) => td class=(format!("{}{}", class(brief), if brief.needs_attention() { " urgent" } else { "" })) {
                        @if linked || brief.needs_attention() {
                            a href=(format!("#{}", record.run.planned[*number].key.id())) { (squared(brief)) }
                        } @else { (squared(brief)) }
                    },
                    Square::NotRun(_) => td { "not run" },
                    Square::Empty => td {},
                } }
            } }
        } }
    }
}

/// What a square says; only what is as it should be says no more than its outcome.
fn squared(brief: &Brief) -> Markup {
    markup! {
        (mark(brief)) " " (brief.word())
        @if brief.status != Status::Expected { small { (brief.status) } }
        @if brief.as_predicted == Some(false) { small { "not as predicted" } }
    }
}

#[cfg(test)]
mod browser;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, cells, record, record_of};
    use luqual_model::CellRecord;

    fn page_of(record: &Record) -> String {
        let mut page = Vec::new();
        let console = |_: &CellRecord, name: &str| (name == "console.log").then(|| "[    1.0] <b>line</b>\n".repeat(3));
        html(record, Evidence { read: &console, linked: true }, &mut page).unwrap();
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
        assert!(page.contains("injected fault: flip:64m:3:17"));
        assert!(page.contains("<td class=\"survived tainted urgent\">") && page.contains("<small>unexpected</small>"));
    }

    #[test]
    fn a_console_shows_what_is_decisive_and_its_end() {
        let lines: Vec<String> = (1..=600).map(|n| format!("[{n}.0] line {n}")).collect();
        let console = |_: &CellRecord, name: &str| (name == "console.log").then(|| lines.join("\n"));
        // The sample's finding is in line 200.
        let mut page = Vec::new();
        let evidence = Evidence { read: &console, linked: false };
        html(&record_of(vec![cell("a", "b", Outcome::Lost, "x")]), evidence, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("console.log") && !page.contains("href=\"cells/"), "the page stands elsewhere");
        assert!(page.contains("… 194 lines …\n[195.0] line 195\n"), "{page}");
        assert!(page.contains("<mark>[200.0] line 200</mark>\n"), "{page}");
        assert!(page.contains("[205.0] line 205\n… 335 lines …\n[541.0] line 541\n"), "{page}");
        assert!(page.contains("[600.0] line 600\n</pre>"), "{page}");
    }

    #[test]
    fn of_many_cells_few_are_open() {
        let many = (0..300).map(|n| cell("a", &format!("b{n}"), Outcome::Lost, "x")).collect();
        let page = page_of(&record_of(many));
        assert_eq!(page.matches(" open>").count(), OPEN);
        assert_eq!(page.matches("<pre>").count(), WHOLE);
        assert_eq!(page.matches("0 of 1 probes passed").count(), 300 - WHOLE);
    }

    #[test]
    fn of_a_huge_run_what_needs_attention_is_listed() {
        let mut many: Vec<CellRecord> =
            (0..=HUGE).map(|n| cell("a", &format!("b{n}"), Outcome::Survived, "")).collect();
        many[7] = cell("a", "b7", Outcome::Lost, "x");
        let page = page_of(&record_of(many));
        assert_eq!(page.matches("<details class=\"cell\"").count(), 1);
        assert!(page.contains("href=\"#a_b7_") && !page.contains("href=\"#a_b8_"));
        assert!(page.contains("1 of 10001 cells need attention"));
    }

    #[test]
    fn the_page_asks_nobody_for_anything() {
        let page = page();
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
    }
}
