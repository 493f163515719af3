use std::fmt;

/// How much of a device an update kept. A level includes those below it. The name of a probe of a device begins with
/// its level, such as `D4 descriptor preserve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Present: the device is there, with the same functions and BARs.
    D0,
    /// Usable: the target can open and use it.
    D1,
    /// Quiet: it wrote to no memory that was not its own, and none of its accesses faulted.
    D2,
    /// State: its registers and its configuration are as they were before the update.
    D3,
    /// Descriptor: the kernel preserved its file descriptor, and the target gave it out.
    D4,
    /// Running: it kept working during the update.
    D5,
}

impl Level {
    /// Every level, in order.
    pub const ALL: [Self; 6] = [Self::D0, Self::D1, Self::D2, Self::D3, Self::D4, Self::D5];

    /// The level that begins the name of a probe.
    pub fn of(probe: &str) -> Option<Self> {
        let (first, _) = probe.split_once(' ')?;
        Self::ALL.into_iter().find(|level| level.name() == first)
    }

    /// The name, as probes have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::D0 => "D0",
            Self::D1 => "D1",
            Self::D2 => "D2",
            Self::D3 => "D3",
            Self::D4 => "D4",
            Self::D5 => "D5",
        }
    }

    /// The meaning, in one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::D0 => "present",
            Self::D1 => "usable",
            Self::D2 => "quiet",
            Self::D3 => "state",
            Self::D4 => "fd",
            Self::D5 => "running",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_with_its_level() {
        for (name, level) in [
            ("D4 descriptor preserve", Some(Level::D4)),
            ("D2 host: IOMMU faults", Some(Level::D2)),
            ("D6 x", None),
            ("D1", None),
            ("D10 x", None),
            ("memfd D0 content", None),
            ("", None),
        ] {
            assert_eq!(Level::of(name), level, "{name}");
        }
    }
}
