//! Source × target, one grid for each profile and workload: what the terminal and the page both draw.

use luqual_model::{CellRecord, Planned, RunRecord};

/// One grid; names are in plan order.
pub(crate) struct Grid<'a> {
    pub(crate) profile: &'a str,
    pub(crate) workload: &'a str,
    pub(crate) targets: Vec<&'a str>,
    pub(crate) rows: Vec<Row<'a>>,
}

/// One source, and a square for each target.
pub(crate) struct Row<'a> {
    pub(crate) source: &'a str,
    pub(crate) squares: Vec<Square<'a>>,
}

/// What became of one pair.
#[derive(Clone, Copy)]
pub(crate) enum Square<'a> {
    /// It ended.
    Ended(&'a CellRecord),
    /// It was planned and has no result.
    NotRun,
    /// It was never wanted.
    Empty,
}

/// All grids of a run, in plan order.
pub(crate) fn grids(record: &RunRecord) -> Vec<Grid<'_>> {
    let kinds = unique(record.planned.iter().map(|Planned { key, .. }| (key.profile.as_str(), key.workload.as_str())));
    let grid = |(profile, workload)| {
        let keys = || record.planned.iter().map(|planned| &planned.key);
        let planned = || keys().filter(move |key| key.profile == profile && key.workload == workload);
        let targets = unique(planned().map(|key| key.target.as_str()));
        let square = |source: &str, target: &str| {
            let Some(key) = planned().find(|key| key.source == source && key.target == target) else {
                return Square::Empty;
            };
            record.cells.iter().find(|cell| cell.plan.key == *key).map_or(Square::NotRun, Square::Ended)
        };
        let rows = unique(planned().map(|key| key.source.as_str()))
            .into_iter()
            .map(|source| Row { source, squares: targets.iter().map(|target| square(source, target)).collect() })
            .collect();
        Grid { profile, workload, targets, rows }
    };
    kinds.into_iter().map(grid).collect()
}

/// Each once, where it came first.
fn unique<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut known, item| {
        if !known.contains(&item) {
            known.push(item);
        }
        known
    })
}
