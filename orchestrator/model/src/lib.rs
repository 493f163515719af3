//! Identifiers, phases, events, outcomes and the run record; no files.
//!
//! The runner emits [`Event`]s, and one dispatcher puts them in order. The terminal, the journal and the reports fold
//! the same stream. A record on disk is these types as JSON, with [`SCHEMA_VERSION`] at the top. Words:
//! docs/glossary.md.

mod arch;
pub mod bounds;
mod cell;
mod device;
mod emulation;
mod event;
mod expectation;
mod finding;
mod frames;
mod glob;
mod iommu;
mod journal;
mod kernel;
mod level;
mod outcome;
mod pci;
mod phase;
pub mod plain;
mod planned;
mod policy;
mod probe;
mod profile;
mod program;
mod rate;
mod record;
mod run;
mod settings;
mod signature;
mod status;
mod version;
mod vm_report;

pub use arch::{
    ARCH, ImageHeader, IommuEvent, IommuSupport, PageTableNote, PageTables, QemuProgram, ReadWord, traced_number,
};
pub use cell::{CellId, CellKey};
pub use device::Device;
pub use emulation::{Accel, Emulation, EmulatorFault, FaultSign, FaultyVersions, QemuVersion};
pub use event::{Event, Stamped};
pub use expectation::{End, Expectation, ProbeMismatch, ProbeNames};
pub use finding::{Finding, FindingKind, kernel_after};
pub use frames::{Frames, Span};
pub use glob::matches;
pub use iommu::Iommu;
pub use journal::{ByteRange, Journal};
pub use kernel::{Capability, ConfigBase, KernelInfo, KernelModule, Patch, Refusal};
pub use level::Level;
pub use outcome::{Outcome, Prediction};
pub use pci::PciAddress;
pub use phase::{Phase, Side};
pub use planned::PlannedCell;
pub use policy::{Acceptance, Accepted, Policy};
pub use probe::{Observer, Probe, ProbeKind};
pub use profile::{Bus, Node, Profile, is_options};
pub use program::{ProgramFile, ProgramInfo};
pub use rate::Rate;
pub use record::{Attempt, Blackout, CellRecord, Measure, PhaseEnd, PhaseRecord};
pub use run::{HostInfo, Partition, RunInfo, RunRecord};
pub use settings::{Append, OutcomeSettings, Reproduced, Settings, Vmcore, VmcoreOf};
pub use signature::{crash_signature, line_glob, signature};
pub use status::Status;
pub use version::{RANGE_SYNTAX, Version, VersionRange};
pub use vm_report::{PauseTimes, VmCounter, VmEvent, VmReport};

/// The version of `run.json` and `events.jsonl`. It rises when a change of shape would mislead a reader of the old
/// one.
pub const SCHEMA_VERSION: u32 = 1;
