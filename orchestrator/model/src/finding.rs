use crate::Side;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a kernel of a cell, by the number of kexecs before it.
pub fn kernel_after(hop: u32) -> String {
    match hop {
        0 | 1 => Side::after(hop).to_string(),
        _ => format!("after kexec {hop}"),
    }
}

/// A console line that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The kind of line.
    pub kind: FindingKind,
    /// The kernel that printed the line.
    pub side: Side,
    /// The number of kexecs before that kernel: 0 for the source, 1 for the target of a plain cell.
    #[serde(default)]
    pub hop: u32,
    /// When the host read the line, in microseconds since the start of the cell.
    pub at_us: u64,
    /// The line's number in `console.log`, from 1.
    pub line: u64,
    /// The line, without its time stamp.
    pub text: String,
    /// The kernel's function in which a crash or a warning was: of its RIP line, or else of the first frame of its
    /// trace that does more than report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

impl Finding {
    /// The name of the kernel that printed the line. A record of an earlier luqual has the side alone.
    pub fn kernel(&self) -> String {
        kernel_after(self.hop.max(u32::from(self.side == Side::Target)))
    }
}

/// What a console line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// `Kernel panic - not syncing`.
    Panic,
    /// An oops, a general protection fault, a bad page access in the kernel.
    Oops,
    /// `kernel BUG at`, `BUG:` from a kernel checker.
    Bug,
    /// `WARNING:` with a cut-here block, or a sanitizer's splat.
    Warning,
    /// `INFO: task … blocked for more than`.
    HungTask,
    /// A soft or hard lockup or an RCU stall.
    Stall,
    /// An error that a kernel reports and lives with: no memory, a process that it killed, a lost interrupt, a fault of
    /// the IOMMU, a failure of KHO or LUO.
    Error,
    /// A kernel found that its timers disagree, and chose one of them.
    Clock,
    /// The target refused the handover as a whole.
    HandoverRefused,
    /// Any other line of KHO.
    Kho,
    /// Any other line of LUO.
    Luo,
}

impl FindingKind {
    /// Whether the line means that the kernel crashed or hung.
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::Panic | Self::Oops | Self::Bug | Self::HungTask | Self::Stall)
    }

    /// Whether the line taints a cell only if it survives: what was lost or refused can be the reason for the line.
    pub const fn taints_survival(self) -> bool {
        matches!(self, Self::Error)
    }

    /// Whether the line taints a cell, whatever its outcome.
    pub const fn taints(self) -> bool {
        self.is_crash() || matches!(self, Self::Warning)
    }

    /// The word in records and reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Oops => "oops",
            Self::Bug => "bug",
            Self::Warning => "warning",
            Self::HungTask => "hung-task",
            Self::Stall => "stall",
            Self::Error => "error",
            Self::Clock => "clock",
            Self::HandoverRefused => "handover-refused",
            Self::Kho => "kho",
            Self::Luo => "luo",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
