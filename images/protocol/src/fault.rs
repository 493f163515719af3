use serde::{Deserialize, Serialize};

/// A fault that the agent injects into what a workload has preserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestFault {
    /// In the source: the file offset of a memfd moves by one.
    Offset,
    /// In the source: a memfd is preserved again with the content of another seed.
    OtherContent,
    /// In the source: a session is made again without one of its memfds.
    NotPreserved,
    /// In the source: two memfds are preserved again, each with the session and the token of the other.
    Swapped,
    /// In the source: a session is closed.
    SessionClosed,
    /// In the source: a session is made again with another name.
    SessionRenamed,
    /// In the source: the wall clock is set one hour forward.
    ClockStep,
    /// In the target, before anything is retrieved: a session is retrieved and held by somebody else.
    SessionTaken,
    /// In the target, before anything is retrieved: a session is retrieved and finished by somebody else.
    SessionFinished,
    /// In the target, after retrieve: a memfd is one byte longer.
    Longer,
    /// In the target, after retrieve: the last byte of a memfd is cut off.
    Shorter,
    /// In the target, after retrieve: the first page of a memfd is a hole.
    Hole,
    /// In the target, after retrieve: the file offset of a memfd moves by one.
    OffsetLater,
    /// In the target, after retrieve: a memfd gets F_SEAL_SHRINK. No released kernel hands over a seal that is added
    /// after preserve.
    Sealed,
    /// In the target, after retrieve: two memfds are taken for each other.
    Confused,
    /// In the target, after retrieve: the agent reports no further probe.
    Mute,
}

/// When a fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// In a source, after the workload is preserved.
    Preserved,
    /// In a source, just before the kexec, when the host has read what is preserved.
    Loaded,
    /// In a target, before the workload is retrieved.
    Arrived,
    /// In a target, after the workload is retrieved and before it is verified.
    Retrieved,
}

/// What a fault is injected into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultObject {
    /// The workload as a whole.
    Workload,
    /// A memfd, by its name.
    Memfd,
    /// Two memfds, by their names.
    TwoMemfds,
    /// A session, by its label.
    Session,
}

impl FaultObject {
    /// How many names it has.
    pub const fn names(self) -> usize {
        match self {
            Self::Workload => 0,
            Self::Memfd | Self::Session => 1,
            Self::TwoMemfds => 2,
        }
    }
}

impl GuestFault {
    /// All faults.
    pub const ALL: [Self; 16] = [
        Self::Offset,
        Self::Sealed,
        Self::OtherContent,
        Self::NotPreserved,
        Self::Swapped,
        Self::SessionClosed,
        Self::SessionRenamed,
        Self::ClockStep,
        Self::SessionTaken,
        Self::SessionFinished,
        Self::Longer,
        Self::Shorter,
        Self::Hole,
        Self::OffsetLater,
        Self::Confused,
        Self::Mute,
    ];

    /// The word for the fault on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offset => "offset",
            Self::Sealed => "sealed",
            Self::OtherContent => "other-content",
            Self::NotPreserved => "not-preserved",
            Self::Swapped => "swapped",
            Self::SessionClosed => "session-closed",
            Self::SessionRenamed => "session-renamed",
            Self::ClockStep => "clock-step",
            Self::SessionTaken => "session-taken",
            Self::SessionFinished => "session-finished",
            Self::Longer => "longer",
            Self::Shorter => "shorter",
            Self::Hole => "hole",
            Self::OffsetLater => "offset-later",
            Self::Confused => "confused",
            Self::Mute => "mute",
        }
    }

    /// When it is injected.
    pub const fn moment(self) -> Moment {
        match self {
            Self::Offset
            | Self::OtherContent
            | Self::NotPreserved
            | Self::Swapped
            | Self::SessionClosed
            | Self::SessionRenamed
            | Self::ClockStep => Moment::Preserved,
            Self::SessionTaken | Self::SessionFinished => Moment::Arrived,
            Self::Longer
            | Self::Shorter
            | Self::Hole
            | Self::OffsetLater
            | Self::Sealed
            | Self::Confused
            | Self::Mute => Moment::Retrieved,
        }
    }

    /// What it is injected into.
    pub const fn object(self) -> FaultObject {
        match self {
            Self::ClockStep | Self::Mute => FaultObject::Workload,
            Self::SessionClosed | Self::SessionRenamed | Self::SessionTaken | Self::SessionFinished => {
                FaultObject::Session
            }
            Self::Swapped | Self::Confused => FaultObject::TwoMemfds,
            Self::Offset
            | Self::Sealed
            | Self::OtherContent
            | Self::NotPreserved
            | Self::Longer
            | Self::Shorter
            | Self::Hole
            | Self::OffsetLater => FaultObject::Memfd,
        }
    }
}
