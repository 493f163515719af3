//! One row a device, machine and pair, one column a level, as Markdown: what of a device an update kept, and how it
//! did not.

use crate::devices::{Devices, Row, RowResult, Sent};
use crate::frames::SPANS;
use crate::markdown::plain;
use crate::record::Record;
use luqual_model::Level;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;

/// The table, below it each way in which a level was not kept, and what became of frames that were sent. A cell that
/// ended in several runs counts in the last of them. None where no run has a device's workload.
pub fn levels(records: &[Record]) -> io::Result<Option<String>> {
    let devices = Devices::of(&records.iter().collect::<Vec<_>>())?;
    if devices.rows.is_empty() {
        return Ok(None);
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let faults: BTreeSet<&String> = records.iter().filter_map(|record| record.run.settings.inject.as_ref()).collect();
    for fault in faults {
        let _ = writeln!(text, "{}\n", crate::markdown::injected(fault));
    }
    let heads: Vec<String> = Level::ALL.iter().map(|level| format!("{level} {}", level.word())).collect();
    let _ = writeln!(
        text,
        "| device | profile | source → target | {} |\n|{}",
        heads.join(" | "),
        " --- |".repeat(3 + heads.len())
    );
    for Row { device, profile, pair, told } in &devices.rows {
        let fields = match told {
            RowResult::Levels(levels) => levels.map(|checked| checked.word()).join(" | "),
            RowResult::End(_, words) => once(&format!("**{}**", plain(words))),
            RowResult::NotRun => once("not run"),
        };
        let _ = writeln!(text, "| {} | {} | {} | {fields} |", plain(device), plain(profile), plain(pair));
    }
    text.push('\n');
    for failure in &devices.failures {
        let _ = writeln!(text, "* {}", plain(&failure.told()));
    }
    // Of a kernel that several runs have, its patches are told once.
    let kernels = devices.kernels.iter().filter_map(|(run, name)| records[*run].run.kernels.get(name));
    for line in crate::kernels::lines(kernels).into_iter().collect::<BTreeSet<_>>() {
        let _ = writeln!(text, "* {}", plain(&line));
    }
    if !devices.sent.is_empty() {
        let _ = write!(text, "\n{}", survivors(&devices.sent));
    }
    Ok(Some(text))
}

/// A row a device, machine and pair: how many of the frames of each span were received, and when.
fn survivors(sent: &[Sent]) -> String {
    let mut text =
        "**A packet survives**: of the numbered frames that were sent to a device all over the update, those that it \
        received. In equal parts of the time: `█` all, `▒` some, `·` none; `│` the borders of the blackout.\n\n"
            .to_owned();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "| device | profile | source → target | {} | ms | received |\n|{}",
        SPANS.join(" | "),
        " --- |".repeat(5 + SPANS.len())
    );
    for Sent { device, profile, pair, strip } in sent {
        let counts = strip.counts().map(|count| count.unwrap_or_else(|| "–".to_owned())).join(" | ");
        let bar =
            Some(strip.bar()).filter(|bar| !bar.is_empty()).map_or_else(|| "–".to_owned(), |bar| format!("`{bar}`"));
        let (device, profile, pair) = (plain(device), plain(profile), plain(pair));
        let _ = writeln!(text, "| {device} | {profile} | {pair} | {counts} | {} | {bar} |", strip.duration_us / 1000);
    }
    text
}

/// What is told instead of levels, in the first of their fields.
fn once(words: &str) -> String {
    format!("{words}{}", " | ".repeat(Level::ALL.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{device, device_cells, framed_cells, planned_and, record, record_of};
    use luqual_model::{Outcome, Patch};

    #[test]
    fn all_that_can_become_of_a_device() {
        insta::assert_snapshot!(levels(&[planned_and(device_cells())]).unwrap().unwrap());
    }

    #[test]
    fn frames_are_counted_below() {
        insta::assert_snapshot!(levels(&[record_of(framed_cells())]).unwrap().unwrap());
    }

    #[test]
    fn what_came_at_another_time_is_the_same_way() {
        let reset = |workload, first| {
            let observed = format!("1, first {first} ms after it was left");
            device(workload, "7.3.4", Outcome::Lost, "", &[("D3 host: resets by the open", "none", &observed)])
        };
        let cells = vec![reset("vfio.nvme.idle", 2903), reset("vfio.edu.idle", 3109)];
        let text = levels(&[record_of(cells)]).unwrap().unwrap();
        assert!(text.contains("* D3 host: resets by the open: expected none, observed some (2 rows)\n"), "{text}");
    }

    #[test]
    fn a_run_without_devices_has_no_table() {
        assert!(levels(&[record()]).unwrap().is_none());
    }

    #[test]
    fn a_cell_counts_in_the_last_run_and_a_kernel_is_patched_once() {
        let run = |outcome, title: &str| {
            let mut run = record_of(vec![device("vfio.nvme.idle", "7.3.4", outcome, title, &[("D0 BARs", "6", "6")])]);
            let patch = Patch { subject: "PCI: leave it on".into(), sha256: "ab".into() };
            run.run.kernels.get_mut("7.3.4").unwrap().patches.push(patch.clone());
            // No cell of a device is on it.
            run.run.kernels.get_mut("6.18.15").unwrap().patches.push(patch);
            run
        };
        let mut last = run(Outcome::Survived, "");
        last.run.settings.inject = Some("flip:64m:3:17".into());
        let text = levels(&[run(Outcome::Crashed, "panic"), run(Outcome::Crashed, "panic"), last]).unwrap().unwrap();
        assert!(!text.contains("crashed"), "{text}");
        assert!(text.starts_with("**A fault was injected (flip:64m:3:17)"), "{text}");
        assert!(text.ends_with("\n* 7.3.4 carries 1 patch: PCI: leave it on\n"), "{text}");
    }
}
