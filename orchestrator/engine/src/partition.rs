//! Partitions: which cells of a selection run in one part, as in `--partition 2/8`. Pure.

use crate::request::Part;
use crate::selection::Chosen;
use luqual_model::{CellKey, Partition};
use luqual_runner::drawn;
use std::collections::HashMap;

impl Part {
    /// The indices of the part's cells. Cells that may share a boot stay together, so that each is in the same boot
    /// as without parts. These groups, and the cells with boots of their own, are dealt out in turn. The result
    /// depends only on the selection.
    fn places(self, cells: &[CellKey], shares_boot: impl Fn(&str) -> bool) -> Partition {
        let mut dealt: HashMap<(&str, &str, &str), u32> = HashMap::new();
        let mut next = 0;
        let mut deal = || {
            next += 1;
            next - 1
        };
        let turns = cells.iter().map(|key| match shares_boot(&key.workload) {
            true => *dealt.entry((&key.source, &key.target, &key.profile)).or_insert_with(&mut deal),
            false => deal(),
        });
        let is_own = |turn: u32| turn % self.of == self.number - 1;
        let places = turns.enumerate().filter(|(_, turn)| is_own(*turn)).map(|(place, _)| place).collect();
        let selection = luqual_files::digest::of_bytes(ids(cells).as_bytes());
        Partition { number: self.number, of: self.of, cells: cells.len(), places, selection }
    }
}

impl Chosen {
    /// One part of the selection.
    pub(crate) fn part(&self, part: Part) -> Self {
        let shares_boot = |name: &str| self.registry.find(name).is_some_and(|workload| workload.shares_boot);
        let partition = part.places(&self.cells, shares_boot);
        let cells = partition.places.iter().map(|place| self.cells[*place].clone()).collect();
        Self { seed: Some(seed(&self.cells)), partition: Some(partition), cells, ..self.clone() }
    }
}

fn ids(cells: &[CellKey]) -> String {
    cells.iter().map(|key| key.id().0).collect::<Vec<_>>().join("\n")
}

/// The seed of all parts, unless one is given: they are one run, and need the same.
fn seed(cells: &[CellKey]) -> u64 {
    drawn(0, &ids(cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn cells() -> Vec<CellKey> {
        let kernels = ["a", "b", "c"];
        let pairs = kernels.into_iter().flat_map(|source| kernels.map(|target| (source, target)));
        let key = |(source, target): (&str, &str), workload: &str| {
            let [source, target, profile, workload] = [source, target, "p", workload].map(str::to_owned);
            CellKey { source, target, profile, workload }
        };
        pairs.flat_map(|pair| ["x.alone", "x.one", "x.two", "y.alone"].map(|workload| key(pair, workload))).collect()
    }

    fn part(number: u32, of: u32) -> Partition {
        Part { number, of }.places(&cells(), |name| !name.ends_with("alone"))
    }

    #[test]
    fn each_cell_is_in_one_part_and_those_of_a_boot_are_in_the_same() {
        for of in [1, 2, 5, 8, 40] {
            let parts: Vec<Partition> = (1..=of).map(|number| part(number, of)).collect();
            let mut all: Vec<usize> = parts.iter().flat_map(|part| part.places.clone()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..36).collect::<Vec<_>>(), "{of}");
            for part in &parts {
                let own: HashSet<usize> = part.places.iter().copied().collect();
                let in_order = part.places.is_sorted();
                assert!(in_order && (0..9).all(|pair| own.contains(&(pair * 4 + 1)) == own.contains(&(pair * 4 + 2))));
            }
        }
        // 27 boots.
        let sizes: Vec<usize> = (1..=8).map(|number| part(number, 8).places.len()).collect();
        assert!(sizes.iter().all(|size| (3..=7).contains(size)), "{sizes:?}");
        assert!(part(40, 40).places.is_empty());
    }

    #[test]
    fn all_parts_draw_from_one_number_and_other_selections_from_others() {
        let all = cells();
        assert_eq!(seed(&all), seed(&cells()));
        assert_ne!(seed(&all), seed(&all[1..]));
    }
}
