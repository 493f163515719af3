//! A team's own rule for `luqual qualify`.

use crate::{CellRecord, Outcome, Status, matches};

/// What an update has to keep, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The name.
    pub name: String,
    /// What it is for, in one line; empty if it does not say so.
    pub summary: String,
    /// The workloads that have to survive, as globs.
    pub require: Vec<String>,
    /// How often each has to; `None` if the policy does not say so.
    pub repeat: Option<u32>,
    /// What is accepted.
    pub accept: Vec<Accepted>,
}

/// A known loss that is accepted, or a workload that need not be tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The workloads, as a glob.
    pub workload: String,
    /// Whether it is accepted that they are skipped. Otherwise it is accepted that they end as the expectations say.
    pub skipped: bool,
    /// Why.
    pub reason: String,
    /// The last day, as `2027-06-30`.
    pub until: String,
}

/// What a policy says of a cell that did not survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance<'a> {
    /// It is not accepted.
    No,
    /// It is accepted.
    Accepted(&'a Accepted),
    /// It was accepted until a day that is over.
    Expired(&'a Accepted),
}

impl Policy {
    /// luqual's own rule: everything survives.
    pub fn own() -> Self {
        Self {
            name: "luqual".to_owned(),
            summary: "everything that a released kernel keeps survives".to_owned(),
            require: vec!["*".to_owned()],
            repeat: None,
            accept: Vec::new(),
        }
    }

    /// Whether a cell that did not survive is accepted on a day. An end that no expectation describes never is: the policy
    /// accepts what is known, and not whatever else goes wrong in the same cell.
    pub fn accepts(&self, cell: &CellRecord, today: &str) -> Acceptance<'_> {
        let is_skipped = cell.outcome == Outcome::Skipped;
        let is_known = cell.status == Status::Expected && cell.outcome.is_conclusive();
        let takes = |rule: &&Accepted| {
            matches(&rule.workload, &cell.plan.key.workload)
                && if rule.skipped { is_skipped } else { is_known && !is_skipped }
        };
        match self.accept.iter().rfind(takes) {
            None => Acceptance::No,
            Some(rule) if rule.until.as_str() < today => Acceptance::Expired(rule),
            Some(rule) => Acceptance::Accepted(rule),
        }
    }
}
