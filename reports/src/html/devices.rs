//! The devices of a run, by what of them an update kept.

use super::frames;
use super::marks::mark_of;
use crate::devices::{Checked, Devices, Row, RowResult};
use luqual_model::Level;
use maud::{Markup, html as markup};

/// Nothing, if no workload is a device's.
pub(super) fn devices(devices: &Devices) -> Markup {
    markup! {
        @if !devices.rows.is_empty() {
            h2 { "Devices" }
            div.wide.grid-frame { table.grid {
                tr {
                    @for title in ["device", "profile", "source → target"] { th scope="col" { (title) } }
                    @for level in Level::ALL { th scope="col" { (level) " " (level.word()) } }
                }
                @for row in &devices.rows { (drawn(row)) }
            } }
            @if !devices.failures.is_empty() { ul { @for failure in &devices.failures { li { (failure.told()) } } } }
            (frames::of_devices(&devices.sent))
        }
    }
}

fn drawn(row: &Row) -> Markup {
    markup! {
        tr {
            th scope="row" { (row.device) } td { (row.profile) } td { (row.pair) }
            @match &row.told {
                RowResult::Levels(levels) => @for checked in levels { (field(*checked)) },
                RowResult::End(outcome, words) => td class=(outcome) colspan=(Level::ALL.len()) { (mark_of(*outcome)) " " (words) },
                RowResult::NotRun => td colspan=(Level::ALL.len()) { "not run" },
            }
        }
    }
}

fn field(checked: Checked) -> Markup {
    let word = checked.word();
    markup! {
        @match checked {
            Checked { probes: 0, .. } => td { (word) },
            Checked { failed: 0, .. } => td.survived { "✓ " (word) },
            Checked { .. } => td.lost { "✗ " (word) },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::devices::Devices;
    use crate::samples::{device_cells, planned_and, record};

    #[test]
    fn all_that_can_become_of_a_device() {
        let record = planned_and(device_cells());
        let section = super::devices(&Devices::of(&[&record]).unwrap()).into_string();
        insta::assert_snapshot!(section.replace("<tr>", "\n<tr>").replace("<li>", "\n<li>"));
    }

    #[test]
    fn a_run_without_devices_has_no_section() {
        assert_eq!(super::devices(&Devices::of(&[&record()]).unwrap()).into_string(), "");
    }
}
