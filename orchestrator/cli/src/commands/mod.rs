//! One module per command: its arguments, and what is said of what the engine did.

pub(crate) mod bench;
pub(crate) mod bisect;
pub(crate) mod bundle;
pub(crate) mod doctor;
pub(crate) mod expect;
pub(crate) mod kernels;
pub(crate) mod machines;
pub(crate) mod merge;
pub(crate) mod mutants;
pub(crate) mod plan;
pub(crate) mod qualify;
pub(crate) mod report;
pub(crate) mod repro;
pub(crate) mod run;
pub(crate) mod selftest;
pub(crate) mod selftests;
pub(crate) mod shell;
mod summary;
pub(crate) mod workloads;
