//! A matrix file: named matrices, programs that are workloads, and what cells are known to do.

use crate::document::{self, Mistakes};
use crate::expect::{self, Expectations};
use crate::machine::{self, own_machines};
use crate::pairs;
use crate::policy;
use crate::program::{self, Program};
use luqual_model::{Policy, Profile};

pub use crate::names::KnownNames;
pub use crate::pairs::Matrix;

/// The matrix file that is built into luqual.
pub const EMBEDDED: &str = include_str!("../../../matrix.toml");

/// The content of a matrix file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatrixFile {
    /// The matrices, in the order of the file.
    pub matrices: Vec<Matrix>,
    /// The machines besides luqual's own, by name.
    pub machines: Vec<Profile>,
    /// The external programs, by name.
    pub programs: Vec<Program>,
    /// The policies, by name.
    pub policies: Vec<Policy>,
    /// What cells are known to do, in whichever matrix they are.
    pub expectations: Expectations,
    /// Whether its expectations stand alone. Otherwise they are added to luqual's own.
    pub stands_alone: bool,
}

/// Reads a matrix file. All mistakes are reported at once.
pub fn read(file: &str, text: &str, known: &KnownNames<'_>) -> Result<MatrixFile, Mistakes> {
    document::read(file, text, |table| {
        let stands_alone = table.flag("replace_expectations");
        let programs = program::read(file, table, known);
        let own = programs.iter().flatten().map(|program| program.workload.as_str());
        let workloads: Vec<&str> = known.workloads.iter().copied().chain(own).collect();
        let machines = machine::read(table, own_machines());
        let of_file = machines.iter().flatten().map(|machine| machine.name.as_str());
        let profiles: Vec<&str> = known.profiles.iter().copied().chain(of_file).collect();
        let known = &KnownNames { workloads: &workloads, profiles: &profiles, ..*known };
        let matrices = table.named("matrix", |name, table| pairs::read(name.text, table, known));
        let policies = policy::read(table, known);
        // What an unreadable matrix has is unknown.
        let expectations = expect::read(table, matrices.as_ref(), known);
        Some(MatrixFile {
            matrices: matrices?,
            machines: machines?,
            policies: policies?,
            expectations,
            programs: programs?,
            stands_alone,
        })
    })
}

#[cfg(test)]
mod tests;
