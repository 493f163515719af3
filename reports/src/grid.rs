//! Source × target, one grid for each profile and workload: what the terminal and the page both draw.

use crate::brief::Brief;
use crate::record::Record;
use luqual_model::{CellKey, Status};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
    /// It ended; with its place in the plan.
    Ended(usize, &'a Brief),
    /// It was planned and has no result.
    NotRun(usize),
    /// It was never wanted.
    Empty,
}

/// A grid, and the workloads of which it is the same; in the order of the first of each.
pub(crate) struct Same<'a> {
    pub(crate) workloads: Vec<&'a str>,
    pub(crate) grid: Grid<'a>,
}

impl Same<'_> {
    /// The workloads, of which many are not all named, and the profile.
    pub(crate) fn heading(&self) -> String {
        const MOST: usize = 4;
        let named = self.workloads.iter().take(MOST).copied().collect::<Vec<&str>>().join(", ");
        let more = self.workloads.len().saturating_sub(MOST);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{named}{more} on {}", self.grid.profile)
    }
}

/// All grids of a run, those in which the same is to be read once.
pub(crate) fn same(record: &Record) -> Vec<Same<'_>> {
    let mut found: Vec<Same<'_>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for grid in grids(record) {
        let Grid { profile, workload, targets, rows } = &grid;
        let rows: Vec<_> =
            rows.iter().map(|row| (row.source, row.squares.iter().map(Square::told).collect::<Vec<_>>())).collect();
        match known.entry(format!("{:?}", (profile, targets, rows))) {
            Entry::Occupied(place) => found[*place.get()].workloads.push(workload),
            Entry::Vacant(place) => {
                place.insert(found.len());
                found.push(Same { workloads: vec![workload], grid });
            }
        }
    }
    found
}

impl Square<'_> {
    /// What is read of it: its word, and whether that is as expected.
    fn told(&self) -> Option<(String, Status)> {
        match self {
            Self::Ended(_, brief) => Some((brief.word(), brief.status)),
            Self::NotRun(_) => Some((String::new(), Status::Unexpected)),
            Self::Empty => None,
        }
    }
}

/// All grids of a run, in plan order.
pub(crate) fn grids(record: &Record) -> Vec<Grid<'_>> {
    let keys = || record.run.planned.iter().map(|planned| &planned.key).enumerate();
    let mut kinds = Unique::default();
    let mut of_kind: Vec<Vec<(usize, &CellKey)>> = Vec::new();
    for (number, key) in keys() {
        let kind = kinds.place((key.profile.as_str(), key.workload.as_str()));
        of_kind.resize_with(kinds.items.len(), Vec::new);
        of_kind[kind].push((number, key));
    }
    let drawn = kinds.items.into_iter().zip(of_kind).map(|((profile, workload), cells)| {
        let (mut sources, mut targets) = (Unique::default(), Unique::default());
        let places: HashMap<(usize, usize), usize> = cells
            .into_iter()
            .map(|(number, key)| ((sources.place(key.source.as_str()), targets.place(key.target.as_str())), number))
            .collect();
        let square = |place| match places.get(&place) {
            None => Square::Empty,
            Some(number) => record.brief(*number).map_or(Square::NotRun(*number), |it| Square::Ended(*number, it)),
        };
        let squares = |row| (0..targets.items.len()).map(|column| square((row, column))).collect();
        let rows =
            sources.items.iter().enumerate().map(|(row, source)| Row { source, squares: squares(row) }).collect();
        Grid { profile, workload, rows, targets: targets.items }
    });
    drawn.collect()
}

/// Each once, where it came first.
struct Unique<T> {
    items: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self { items: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Unique<T> {
    fn place(&mut self, item: T) -> usize {
        *self.places.entry(item).or_insert_with(|| {
            self.items.push(item);
            self.items.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{cell, record_of};
    use luqual_model::{CellRecord, Outcome};

    fn of(workload: &str, target: &str, outcome: Outcome) -> CellRecord {
        let mut cell = cell("a", target, outcome, "");
        cell.plan.key.workload = workload.into();
        cell.id = cell.plan.key.id();
        cell
    }

    #[test]
    fn what_is_the_same_is_drawn_once() {
        let names = ["luo.a", "luo.b", "luo.c", "luo.d", "luo.e", "luo.f"];
        let mut cells: Vec<CellRecord> = names.iter().map(|name| of(name, "b", Outcome::Survived)).collect();
        cells[1] = of("luo.b", "b", Outcome::Lost);
        cells.push(of("luo.g", "c", Outcome::Survived));
        let record = record_of(cells);
        let headings: Vec<String> = same(&record).iter().map(Same::heading).collect();
        assert_eq!(
            headings,
            ["luo.a, luo.c, luo.d, luo.e and 1 more on q35-intel", "luo.b on q35-intel", "luo.g on q35-intel"]
        );
    }

    #[test]
    fn a_cell_that_was_not_run_is_like_no_survival() {
        let cells = vec![of("luo.a", "b", Outcome::Survived), of("luo.b", "b", Outcome::Survived)];
        let plan = cells.iter().map(|cell| cell.plan.clone()).collect();
        let record = crate::samples::written(plan, cells.into_iter().take(1).collect());
        assert_eq!(same(&record).len(), 2);
    }
}
