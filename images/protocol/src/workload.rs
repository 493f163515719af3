/// What a workload is, for both sides: the host plans by it, and the agent implements each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// `family.case`.
    pub name: &'static str,
    /// What it asserts, in one sentence.
    pub asserts: &'static str,
    /// From which kernel source or document the rule comes.
    pub rule: &'static str,
    /// The machine profile on which it runs unless the user names another.
    pub profile: &'static str,
    /// What the source kernel must be able to do.
    pub needs: &'static [Need],
    /// Whether it can run beside others in one boot.
    pub shares_boot: bool,
}

impl Workload {
    /// The part of the name before the first dot.
    pub fn family(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }
}

/// A kernel ability that a workload needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The Live Update Orchestrator.
    Luo,
}

/// Every workload.
pub static WORKLOADS: &[Workload] = &[
    Workload {
        name: "luo.session-closed",
        asserts: "a session that is closed before the kexec is not handed over, and one that is kept is",
        rule: "kernel/liveupdate/luo_session.c, luo_session_release(): closing an outgoing session takes back its files",
        profile: "q35-intel",
        needs: &[Need::Luo],
        shares_boot: true,
    },
    Workload {
        name: "memfd.basic",
        asserts: "memfds of 0 bytes, 1 byte, 4 KiB, 1 MiB + 1 byte and 64 MiB in two sessions keep every byte, size and offset",
        rule: "mm/memfd_luo.c (what is preserved of a memfd), include/uapi/linux/liveupdate.h (sessions and tokens)",
        profile: "q35-intel",
        needs: &[Need::Luo],
        shares_boot: true,
    },
];

/// The workload of that name.
pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_have_a_family() {
        for (index, workload) in WORKLOADS.iter().enumerate() {
            assert!(workload.name.contains('.'), "{}", workload.name);
            assert!(!workload.rule.is_empty() && !workload.asserts.is_empty(), "{}", workload.name);
            assert!(!WORKLOADS[..index].iter().any(|other| other.name == workload.name), "{}", workload.name);
        }
    }
}
