//! `luqual` as a user runs it. docs/testing.md says which tests there are, in which tier, and how one is added.
//!
//! Each test is a process of its own and needs nothing of another, so that several run at once. The path of a test says
//! what it takes (`.config/nextest.toml`): in a module `alone` all processors, in `daemons` a Slurm of its own, and in `full`
//! it belongs to the full tier. A test that finds a kernel missing builds it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

mod again;
mod bisect;
mod crashes;
mod deaths;
mod faults;
mod kills;
mod packages;
mod parts;
mod qualify;
mod selftest;
mod shell;
mod slurm;
mod survival;
mod usage;
mod workloads;
