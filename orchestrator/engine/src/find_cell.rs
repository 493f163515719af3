//! Finds a cell of an earlier run by its id or a part of it, and the cells of the same boot.

use crate::error::EngineError;
use luqual_model::{CellKey, CellRecord, PlannedCell};
use luqual_reports::Record;

/// The cell with that id, or the only cell whose id contains `requested`.
pub(crate) fn cell_of(record: &Record, requested: &str) -> Result<CellRecord, EngineError> {
    let ids: Vec<String> = record.briefs().map(|(planned, _)| planned.key.id().0).collect();
    let number = numbered(&ids, requested)?;
    record.cell_of(number).map_err(EngineError::named(&record.name))?.ok_or_else(|| {
        EngineError::usage(format!("{} has not ended in that run", ids[number]))
            .hint("`luqual run --resume RUN` runs the rest of it")
    })
}

/// The index of the requested id.
fn numbered(ids: &[String], requested: &str) -> Result<usize, EngineError> {
    if let Some(number) = ids.iter().position(|id| id == requested) {
        return Ok(number);
    }
    let parts: Vec<usize> = (0..ids.len()).filter(|number| ids[*number].contains(requested)).collect();
    match parts.as_slice() {
        [number] => Ok(*number),
        [] => Err(EngineError::usage(format!("the run has no cell `{requested}`"))
            .hint("`luqual report show` lists the names of the cells")),
        several => {
            let told = if requested.is_empty() {
                format!("the run has {} cells, and the command names none", several.len())
            } else {
                format!("{} cells of the run have `{requested}` in their ids", several.len())
            };
            let names: Vec<&str> = several.iter().take(SHOWN).map(|number| ids[*number].as_str()).collect();
            let more = several.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Err(EngineError::usage(told).hint(format!("name one of {}{more}", names.join(", "))))
        }
    }
}

/// The most names in the hint.
const SHOWN: usize = 8;

/// The cells of the boot of a cell's attempt, in plan order; only the cell itself if it had a boot of its own.
pub(crate) fn in_its_boot(planned: &[PlannedCell], cell: &CellRecord, alone: bool) -> Vec<PlannedCell> {
    let CellKey { source, target, profile, workload } = &cell.plan.key;
    let is_in = |key: &CellKey| {
        (&key.source, &key.target, &key.profile) == (source, target, profile)
            && (key.workload == *workload || !alone && cell.shared_with.contains(&key.workload))
    };
    planned.iter().filter(|planned| is_in(&planned.key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_named_by_its_id_or_by_what_no_other_has() {
        let ids = ["a_b_p_memfd.basic", "a_b_p_memfd.basic-2", "a_c_p_luo.x"].map(str::to_owned);
        let of = |requested: &str| {
            numbered(&ids, requested).map_err(|error| (error.to_string(), error.hint_text().map(str::to_owned)))
        };
        assert_eq!((of("a_b_p_memfd.basic"), of("luo"), of("basic-2")), (Ok(0), Ok(2), Ok(1)));
        let (told, hint) = of("basic").unwrap_err();
        assert_eq!(told, "2 cells of the run have `basic` in their ids");
        assert_eq!(hint.unwrap(), "name one of a_b_p_memfd.basic, a_b_p_memfd.basic-2");
        assert!(of("vfio").unwrap_err().1.unwrap().contains("report show"));
    }
}
