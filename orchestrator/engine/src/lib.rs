//! What luqual's commands do, without arguments and without a screen: runs, and what is derived from them.
//!
//! The caller passes a value ([`RunRequest`] and others), gets values back, and receives progress as a [`Listener`].
//! The engine prints nothing and handles no signals; [`Context::interrupt`] ends a job.
//!
//! The modules are listed bottom-up: each uses only those above it in the list.

mod host;

mod error;
mod interactive;
mod notice;
mod request;

mod machine;

#[cfg(test)]
mod fakes;

mod context;
mod duplicates;
mod durations;
mod profiles;
mod registry;
mod selection;

mod build_thread;
mod kernels;
mod partition;
mod plan;
mod run_folder;

mod conclusion;
mod folder;
mod report_files;
mod scale;

mod supply;

mod cells;
mod find_cell;
mod requested;
mod unchanged;

mod bundle;
mod resume;

mod merge;
mod repro;
mod run;

mod bisect;
mod mutants;
mod qualify;
mod selftest;
mod slurm;

mod bench;
mod doctor;
mod shell;

#[cfg(test)]
mod tests;

pub use bench::{BenchRequest, Cost, Measured, bench};
pub use bisect::{BisectRequest, Bisected, Look, Verdict, bisect, flaky};
pub use bundle::{BundleRequest, Packed, pack, unpack_bundle};
pub use conclusion::Conclusion;
pub use context::Context;
pub use doctor::{Condition, examine};
pub use error::{EngineError, ErrorKind};
pub use folder::{Finished, IfExists, find_run, read_folder, read_run};
pub use interactive::Interactive;
pub use kernels::{build_kernel, open_store};
pub use machine::{Found, Machines, QemuMachines};
pub use merge::merge;
pub use mutants::{MutantResult, MutantsRequest, Score, mutants};
pub use notice::{Building, Listener, Notice};
pub use plan::{Plan, plan};
pub use profiles::Profiles;
pub use qualify::{QUALIFICATION_PAGE, policy, qualify};
pub use registry::Registry;
pub use report_files::{evidence, write_report};
pub use repro::{Comparison, ReproRequest, Reproduction, repro};
pub use request::{
    AccelWanted, Demand, Execution, KeepOptions, KernelSource, MachineChoice, MachineSize, Otherwise, Pairs, Part,
    REQUEST_VERSION, RunRequest, RunsOptions, Selection,
};
pub use resume::resume;
pub use run::run;
pub use scale::{ScaleTotals, Taken, scale};
pub use selection::{matrix_file, parse_matrix_file, read_matrix_file, subject};
pub use selftest::{Expected, Injection, Observed, SelftestFault, SelftestRequest, Tested, faults, selftest};
pub use shell::{OnTheWay, ShellRequest, TALKED_TO, shell};
pub use slurm::{Array, run_array, sbatch_option};
