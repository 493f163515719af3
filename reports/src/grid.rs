//! Source × target, one grid for each profile and workload: what the terminal and the page both draw.

use crate::brief::Brief;
use crate::record::Record;
use luqual_model::CellKey;
use std::collections::HashMap;

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
