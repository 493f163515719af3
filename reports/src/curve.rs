//! How long each step of an update takes by what is handed over: a table for each cell that measured it, or lines to
//! plot.

use crate::markdown::plain;
use crate::record::Record;
use crate::suite::pair;
use crate::words::end;
use luqual_model::plain::csv_field;
use luqual_model::{CellRecord, Outcome, Phase};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

/// The steps, in the order in which they are made: the three that a workload measures, and the update between them.
const STEPS: [&str; 4] = ["preserve", "kexec", "retrieve", "finish"];

/// How long each of them took for one size, in microseconds; one that was not measured has none.
type Times = [Option<u64>; STEPS.len()];

/// Those of a cell, by the unit and the size.
fn curves(cell: &CellRecord) -> BTreeMap<&str, BTreeMap<u64, Times>> {
    let mut curves: BTreeMap<&str, BTreeMap<u64, Times>> = BTreeMap::new();
    for measure in &cell.measures {
        let Some(step) = STEPS.iter().position(|step| *step == measure.what) else { continue };
        let times = curves.entry(&measure.unit).or_default().entry(measure.size).or_default();
        times[step] = Some(measure.duration_us);
        if measure.what == STEPS[0] {
            times[1] = kexec_us(cell, measure.hop);
        }
    }
    curves
}

/// From the request to leave the kernel after so many kexecs to the handshake with the next one.
fn kexec_us(cell: &CellRecord, hop: u32) -> Option<u64> {
    let of = |phase, hop| cell.phases.iter().find(|it| (it.phase, it.hop) == (phase, hop)).map(|it| it.duration_us);
    Some(of(Phase::Kexec, hop)? + of(Phase::Reconnect, hop + 1)?)
}

/// As Markdown that can be read as it is: milliseconds by size. None where nothing was measured.
pub fn curve(record: &Record) -> io::Result<Option<String>> {
    let mut text = String::new();
    // Writing to a string does not fail.
    for cell in record.cells() {
        let cell = cell?;
        for (unit, curve) in curves(&cell) {
            let separator = if text.is_empty() { "" } else { "\n" };
            let _ =
                writeln!(text, "{separator}**{}**, {}, in ms\n", plain(&pair(&cell.plan.key)), cell.plan.key.workload);
            let head: Vec<String> = std::iter::once(plain(unit)).chain(STEPS.map(str::to_owned)).collect();
            let body = curve.iter().map(|(size, times)| {
                std::iter::once(size.to_string()).chain(times.map(milliseconds)).collect::<Vec<String>>()
            });
            let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
            let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(4);
            let widths: Vec<usize> = (0..=STEPS.len()).map(width).collect();
            for (number, line) in lines.iter().enumerate() {
                let padded = line.iter().zip(&widths).map(|(word, width)| format!(" {word:>width$} |"));
                let _ = writeln!(text, "|{}", padded.collect::<String>());
                if number == 0 {
                    let rules = widths.iter().map(|width| format!(" {}: |", "-".repeat(width - 1)));
                    let _ = writeln!(text, "|{}", rules.collect::<String>());
                }
            }
        }
        // A curve ends where a kernel says no.
        if !cell.measures.is_empty() && cell.outcome != Outcome::Survived {
            let _ = writeln!(text, "\n{}", plain(&end(&cell)));
        }
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn milliseconds(us: Option<u64>) -> String {
    us.map_or_else(String::new, |us| format!("{:.3}", us as f64 / 1e3))
}

/// A line for each size of each cell, in microseconds: comma-separated values (RFC 4180), for what draws them. None
/// where nothing was measured.
pub fn curve_csv(record: &Record) -> io::Result<Option<String>> {
    let mut text = String::new();
    for cell in record.cells() {
        let cell = cell?;
        let key = &cell.plan.key;
        for (unit, curve) in curves(&cell) {
            for (size, times) in curve {
                let names = [&key.source, &key.target, &key.profile, &key.workload, unit].map(csv_field).join(",");
                let times = times.map(|us| us.map_or_else(|| ",".to_owned(), |us| format!(",{us}"))).concat();
                let _ = write!(text, "{names},{size}{times}\r\n");
            }
        }
    }
    let steps = STEPS.map(|step| format!(",{step}_us")).concat();
    let head = format!("source,target,profile,workload,unit,size{steps}\r\n");
    Ok(Some(text).filter(|text| !text.is_empty()).map(|text| head + &text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, record_of};
    use luqual_model::{Measure, PhaseEnd, PhaseRecord};

    /// A cell in which two sizes were handed on, and a third was refused.
    fn measured(source: &str) -> CellRecord {
        let mut cell =
            cell(source, "7.3.4", Outcome::Refused, "ioctl LIVEUPDATE_SESSION_PRESERVE_FD: ENOSPC (memfd 128 of 1000)");
        cell.plan.key.workload = "scale.curve-files".into();
        cell.id = cell.plan.key.id();
        let phase =
            |phase, hop, duration_us| PhaseRecord { phase, hop, started_us: 0, duration_us, end: PhaseEnd::Done };
        cell.phases = vec![
            phase(Phase::Kexec, 0, 130_000),
            phase(Phase::Reconnect, 1, 2_000_000),
            phase(Phase::Kexec, 1, 140_000),
            phase(Phase::Reconnect, 2, 2_100_000),
        ];
        let measure = |what: &str, size, hop, duration_us| {
            let (what, unit) = (what.to_owned(), "files".to_owned());
            Measure { what, size, unit, hop, duration_us }
        };
        cell.measures = vec![
            measure("preserve", 1, 0, 42),
            measure("retrieve", 1, 1, 51),
            measure("finish", 1, 1, 7),
            measure("preserve", 100, 1, 4_200),
            // What was lost has no time.
            measure("finish", 100, 2, 700),
        ];
        cell
    }

    #[test]
    fn a_table_for_each_cell_that_measured() {
        let record =
            record_of(vec![cell("7.3.4", "7.3.4", Outcome::Survived, ""), measured("7.2.12"), measured("7.3.4")]);
        insta::assert_snapshot!(curve(&record).unwrap().unwrap());
    }

    #[test]
    fn a_line_for_each_size() {
        let record = record_of(vec![cell("7.3.4", "7.3.4", Outcome::Survived, ""), measured("./a,b")]);
        let expected = "source,target,profile,workload,unit,size,preserve_us,kexec_us,retrieve_us,finish_us\r\n\
            \"./a,b\",7.3.4,q35-intel,scale.curve-files,files,1,42,2130000,51,7\r\n\
            \"./a,b\",7.3.4,q35-intel,scale.curve-files,files,100,4200,2240000,,700\r\n";
        assert_eq!(curve_csv(&record).unwrap().unwrap(), expected);
    }

    #[test]
    fn nothing_measured_is_no_curve() {
        let record = record_of(vec![cell("7.3.4", "7.3.4", Outcome::Survived, "")]);
        assert_eq!((curve(&record).unwrap(), curve_csv(&record).unwrap()), (None, None));
    }
}
