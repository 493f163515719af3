//! What the virtual machines of a cell say of the updates that they came through.

use luqual_model::{CellRecord, VmReport};
use maud::{Markup, html as markup};

/// When each stood still, on the scale of the cell's phases. `percent` is a time's place on it.
pub(super) fn stood(cell: &CellRecord, percent: impl Fn(u64) -> String) -> Markup {
    let seen = cell.vm_reports.iter().filter_map(|account| Some((account, account.seen?)));
    markup! {
        @for (account, seen) in seen {
            @let bar = |class: &str, from: u64, to: u64, title: &str| markup! {
                span class=(class) title=(title) style=(format!("left:{};width:{}", percent(from), percent(to.saturating_sub(from)))) {}
            };
            div.phase {
                span { (account.machine) }
                span.track {
                    (bar("bar held", seen.held_us, seen.released_us, "quiescent: it ran, and waited"))
                    (bar("bar still", seen.paused_us, seen.went_on_us, "paused"))
                }
                span.time { ((seen.went_on_us - seen.paused_us) / 1000) " ms" }
            }
        }
    }
}

/// Their own words: the times by the clock that each sees, and what it counted before the update and after.
pub(super) fn told(cell: &CellRecord) -> Markup {
    let mut moments: Vec<&str> = Vec::new();
    let mut counts: Vec<&str> = Vec::new();
    for account in &cell.vm_reports {
        for (known, told) in [
            (&mut moments, account.moments.iter().map(|it| it.what.as_str()).collect::<Vec<_>>()),
            (&mut counts, account.counts.iter().map(|it| it.what.as_str()).collect()),
        ] {
            for what in told {
                if !known.contains(&what) {
                    known.push(what);
                }
            }
        }
    }
    markup! {
        @if !cell.vm_reports.is_empty() { div.wide { table {
            caption { "What the nested VMs report: times by their own clocks, counters before and after the update." }
            tr {
                th scope="col" { "machine" } th scope="col" { "update" }
                @for what in moments.iter().chain(&counts) { th scope="col" { (what) } }
            }
            @for account in &cell.vm_reports { tr {
                td { (account.machine) } td { (account.hop + 1) }
                @for what in &moments { td { (moment(account, what)) } }
                @for what in &counts { td { (count(account, what)) } }
            } }
        } } }
    }
}

fn moment(account: &VmReport, what: &str) -> String {
    let found = account.moments.iter().find(|it| it.what == what);
    found.map_or_else(String::new, |it| format!("{}.{:03} s", it.at_us / 1_000_000, it.at_us / 1000 % 1000))
}

fn count(account: &VmReport, what: &str) -> String {
    let found = account.counts.iter().find(|it| it.what == what);
    found.map_or_else(String::new, |it| format!("{} → {}", it.before, it.after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, cells};
    use luqual_model::{Outcome, PauseTimes, VmCounter, VmEvent};

    fn account(machine: &str, hop: u32, seen: Option<PauseTimes>) -> VmReport {
        let moment = |what: &str, at_us| VmEvent { what: what.to_owned(), at_us };
        VmReport {
            machine: machine.to_owned(),
            hop,
            seen,
            moments: vec![moment("last before the update", 3_214_007), moment("first after it", 5_960_000)],
            counts: vec![VmCounter { what: "rounds".to_owned(), before: 7168, after: 14_400 }],
        }
    }

    #[test]
    fn what_machines_say_and_when_they_were_seen() {
        let seen =
            PauseTimes { held_us: 1_000_000, paused_us: 1_100_000, went_on_us: 2_900_000, released_us: 3_000_000 };
        let mut cell = cell("a", "b", Outcome::Survived, "");
        cell.vm_reports = vec![account("machine <0>", 0, Some(seen)), account("machine 1", 0, None)];
        cell.vm_reports[1].moments.pop();
        let lines = |markup: Markup| markup.into_string().replace("<span", "\n<span").replace("<t", "\n<t");
        insta::assert_snapshot!(lines(stood(&cell, |us| format!("{}%", us / 100_000))) + &lines(told(&cell)));
    }

    #[test]
    fn of_no_machine_nothing_is_said() {
        let cell = cells().swap_remove(0);
        assert_eq!(stood(&cell, |_| String::new()).into_string() + &told(&cell).into_string(), "");
    }
}
