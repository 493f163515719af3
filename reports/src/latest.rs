//! Several runs as one.

use crate::record::Record;
use luqual_model::{CellId, PlannedCell};
use std::collections::HashMap;

/// Of each cell the run that counts: the last in which it ended, or else the first that has it.
pub(crate) struct Latest(HashMap<CellId, usize>);

impl Latest {
    /// Of these runs, which have their places for numbers.
    pub(crate) fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut last = HashMap::new();
        for (number, record) in records.into_iter().enumerate() {
            for (plan, brief) in record.briefs() {
                let id = plan.key.id();
                // Of what did not end here, an earlier run may say more.
                if brief.is_some() || !last.contains_key(&id) {
                    last.insert(id, number);
                }
            }
        }
        Self(last)
    }

    /// Whether it is this run of which the cell counts.
    pub(crate) fn counts(&self, number: usize, plan: &PlannedCell) -> bool {
        self.0.get(&plan.key.id()) == Some(&number)
    }
}
