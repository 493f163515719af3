//! What is checked, in which order, and how long it may take.

/// How much is checked. Each tier has all of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// What a change has to pass.
    Gate,
    /// The gate, and the tests that start a Slurm.
    Slurm,
    /// Everything that may take hours.
    Full,
}

impl Tier {
    /// The tier's profile in `.config/nextest.toml`.
    pub(crate) const fn profile(self) -> &'static str {
        match self {
            Self::Gate => "ci",
            Self::Slurm => "slurm",
            Self::Full => "full",
        }
    }
}

/// What a step does.
pub(crate) enum Work {
    /// Runs a command. `{luqual}` stands for the tests' luqual, `{release}` for the optimised one, `{profile}` for the
    /// tier's profile of nextest, `{runs}` for the folder of the full tier's runs.
    Command(&'static [&'static str]),
    /// Runs nextest, whose closing line is held back to be the last.
    Tests(&'static [&'static str]),
    /// Checks the source against ARCHITECTURE.md.
    Claims,
    /// Checks that the file of the optimised luqual is no larger than so many MiB.
    Size(u64),
}

/// A step: its name, what it is for, and what it does.
pub(crate) struct CiStep {
    pub(crate) name: &'static str,
    pub(crate) purpose: &'static str,
    /// The smallest tier that has it.
    pub(crate) tier: Tier,
    /// How many seconds it should take at most on two quiet processors, nothing compiled; more is told and fails nothing.
    pub(crate) budget: u64,
    pub(crate) work: Work,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// A matrix of `matrix.toml`, on the optimised luqual.
macro_rules! matrix {
    ($name:literal, $purpose:literal, $budget:expr) => {
        CiStep {
            name: concat!("matrix-", $name),
            purpose: $purpose,
            tier: Tier::Full,
            budget: $budget,
            work: Work::Command(&[
                "{release}",
                "run",
                "--matrix",
                $name,
                "--resume-if-exists",
                "--allow-skips",
                "--report-dir",
                concat!("{runs}/", $name),
            ]),
        }
    };
}

/// In this order. The tests are last, so that their closing line is too.
pub(crate) const STEPS: &[CiStep] = &[
    CiStep {
        name: "scripts",
        purpose: "the shell scripts parse",
        tier: Tier::Gate,
        budget: 5,
        work: Work::Command(&[
            "bash",
            "-c",
            // One at a time: what follows the first is its arguments.
            "for script; do bash -n \"$script\" || exit 1; done",
            "bash",
            ".ci/run",
            "ci/quickstart",
            "ci/test",
            "ci/lib.sh",
            "ci/kernels",
            "ci/shard",
            "ci/merge",
            "ci/slurm",
            "ci/templates/check",
        ]),
    },
    CiStep {
        name: "claims",
        purpose: "the source is as ARCHITECTURE.md says",
        tier: Tier::Gate,
        budget: 10,
        work: Work::Claims,
    },
    CiStep {
        name: "templates",
        purpose: "the templates for CI systems are valid by their schemas (the first time it needs PyPI)",
        tier: Tier::Gate,
        budget: MINUTE,
        work: Work::Command(&["ci/templates/check"]),
    },
    CiStep {
        name: "fmt",
        purpose: "formatting",
        tier: Tier::Gate,
        budget: 10,
        work: Work::Command(&["cargo", "fmt", "--all", "--check"]),
    },
    CiStep {
        name: "deny",
        purpose: "licences, sources and bans (advisories need a network and are left to `cargo deny check advisories`)",
        tier: Tier::Gate,
        budget: MINUTE,
        work: Work::Command(&["cargo", "deny", "--log-level", "error", "check", "bans", "licenses", "sources"]),
    },
    CiStep {
        name: "clippy",
        purpose: "lints, warnings denied",
        tier: Tier::Gate,
        budget: 5 * MINUTE,
        work: Work::Command(&[
            "cargo",
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]),
    },
    CiStep {
        name: "build",
        purpose: "luqual and its tests",
        tier: Tier::Gate,
        budget: 7 * MINUTE,
        work: Work::Command(&["cargo", "nextest", "run", "--workspace", "--locked", "--cargo-quiet", "--no-run"]),
    },
    CiStep {
        name: "kernels",
        purpose: "the kernels of the end-to-end tests, built once and kept",
        tier: Tier::Gate,
        budget: 30 * MINUTE,
        work: Work::Command(&["{luqual}", "kernels", "build", "7.2.12", "7.3.4", "6.18.15"]),
    },
    CiStep {
        name: "selftests",
        purpose: "the kernel's own programs, which are workloads",
        tier: Tier::Gate,
        budget: 2 * MINUTE,
        work: Work::Command(&["{luqual}", "selftests", "build", "7.3.4"]),
    },
    CiStep {
        name: "slurm",
        purpose: "Slurm and munge, unpacked for the tests alone",
        tier: Tier::Slurm,
        budget: MINUTE,
        work: Work::Command(&["ci/slurm"]),
    },
    CiStep {
        name: "release",
        purpose: "the luqual that people run, optimised",
        tier: Tier::Full,
        budget: 10 * MINUTE,
        work: Work::Command(&["cargo", "build", "--release", "--locked", "--quiet", "--package", "luqual"]),
    },
    CiStep { name: "size", purpose: "its file has 25 MiB at most", tier: Tier::Full, budget: 1, work: Work::Size(25) },
    matrix!("full", "five series, all pairs, all workloads", 6 * HOUR),
    matrix!("older", "an older kernel of each series into itself, all workloads", 4 * HOUR),
    matrix!("chains", "a hundred updates in a row", 3 * HOUR),
    matrix!("debug", "kernels with their own checkers", 4 * HOUR),
    matrix!("modular", "a kernel with drivers as modules", 2 * HOUR),
    matrix!("variants", "a kernel in several configurations", 4 * HOUR),
    matrix!("skew", "a kernel with another command line on one side", HOUR),
    matrix!("production", "kernels with a distribution's configuration", 4 * HOUR),
    matrix!("iommus", "other IOMMUs", HOUR),
    matrix!("patched", "kernels with patches", 2 * HOUR),
    CiStep {
        name: "mutants",
        purpose: "kernels with one fault each are all found",
        tier: Tier::Full,
        budget: 8 * HOUR,
        work: Work::Command(&["{release}", "mutants", "--report-dir", "{runs}/mutants"]),
    },
    CiStep {
        name: "selftest",
        purpose: "faults of every kind, each found by exactly what has to find it",
        tier: Tier::Full,
        budget: 10 * MINUTE,
        work: Work::Command(&["{release}", "selftest"]),
    },
    CiStep {
        name: "test",
        purpose: "unit tests, and end-to-end tests on real kernels",
        tier: Tier::Gate,
        budget: 15 * MINUTE,
        work: Work::Tests(&[
            "cargo",
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--cargo-quiet",
            "--profile",
            "{profile}",
        ]),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_last_and_names_are_unique() {
        assert!(matches!(STEPS.last(), Some(CiStep { work: Work::Tests(_), .. })));
        let names: std::collections::BTreeSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }
}
