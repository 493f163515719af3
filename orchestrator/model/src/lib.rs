//! Identifiers, phases, events, outcomes and the run record; no files.
//!
//! The runner emits [`Event`]s, one dispatcher puts them in order, and the terminal, the journal and
//! the reports all fold the same stream. What is on disk is these types as JSON, with
//! [`SCHEMA_VERSION`] at the top.

mod account;
mod cell;
mod event;
mod frames;
mod glob;
mod journal;
mod kernel;
mod level;
mod outcome;
mod phase;
mod rate;
mod record;
mod version;

pub use account::{Account, Count, Moment, Stand};
pub use cell::{CellId, CellKey};
pub use event::{Event, Stamped};
pub use frames::{Frames, Span};
pub use glob::matches;
pub use journal::{Journal, Place};
pub use kernel::{Ability, KernelInfo, Patch, Refused};
pub use level::Level;
pub use outcome::{Expectation, OtherProbes, Outcome, Prediction, Status, Told};
pub use phase::{Phase, Side};
pub use rate::Rate;
pub use record::{
    Attempt, Blackout, CellRecord, Course, Finding, FindingKind, HostInfo, Measure, Partition, PhaseEnd, PhaseRecord,
    Planned, Probe, ProgramFile, ProgramInfo, Repeated, Run, RunRecord, Settings, Vmcore, VmcoreOf,
};
pub use version::{RANGE_SYNTAX, Version, VersionRange};

/// The version of `run.json` and `events.jsonl`. It grows when a reader of the old shape would be misled.
pub const SCHEMA_VERSION: u32 = 1;
