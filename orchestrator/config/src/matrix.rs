//! `matrix.toml`: named matrices of kernels, pairs, workloads, deadlines and budget; programs that are workloads; and what
//! cells are known to do.

use crate::deadlines::Deadlines;
use crate::document::{self, Mistakes, Table, Text, nearest};
use crate::expect::{self, Expectations};
use crate::filter::{KernelPattern, Named};
use crate::program::{self, Program};
use luqual_model::{Phase, RANGE_SYNTAX, matches};

/// The matrices that luqual brings.
pub const EMBEDDED: &str = include_str!("../../../matrix.toml");

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatrixFile {
    /// Its matrices, in its order.
    pub matrices: Vec<Matrix>,
    /// The workloads that it brings, by name.
    pub programs: Vec<Program>,
    /// What is known of cells, whichever matrix they are in.
    pub expectations: Expectations,
}

/// One named matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Its name.
    pub name: String,
    /// The kernels that pairs are made of, by catalog name or path.
    pub kernels: Vec<String>,
    /// Which pairs of them.
    pub pairs: Pairs,
    /// Which workloads: names or globs.
    pub workloads: Vec<String>,
    /// On which machines each workload runs; empty for the one that it declares.
    pub profiles: Vec<String>,
    /// The deadlines of all of its cells.
    pub deadlines: Deadlines,
    /// How much of the host it may use.
    pub budget: Budget,
}

/// How much of the host a run may use; what is not said is found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Machines at once.
    pub jobs: Option<u64>,
    /// Memory of all machines that run at once, in MiB.
    pub memory_mib: Option<u64>,
}

/// Which pairs of a list of kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Each with each, itself included.
    All,
    /// Each with itself and with each that comes after it in the list.
    Upgrades,
    /// Each with the one that comes next in the list.
    Adjacent,
    /// Those that any of these takes: source, target.
    Listed(Vec<(KernelPattern, KernelPattern)>),
}

impl Matrix {
    /// Whether `takes` takes one of its pairs; the release of a path is not known yet.
    pub(crate) fn has_pair(&self, takes: impl Fn(&str, &str) -> bool) -> bool {
        let all = || self.kernels.iter().flat_map(|source| self.kernels.iter().map(move |target| (source, target)));
        if self.kernels.iter().any(|name| is_path(name)) {
            return all().any(|(source, target)| takes(source, target));
        }
        self.pairs(str::to_owned).iter().any(|(source, target)| takes(source, target))
    }

    /// All pairs, source first, in the order of the list. `release` tells the release of a kernel by its name.
    pub fn pairs(&self, release: impl Fn(&str) -> String) -> Vec<(String, String)> {
        let releases: Vec<String> = self.kernels.iter().map(|name| release(name)).collect();
        let named = |index: usize| Named { name: &self.kernels[index], release: &releases[index] };
        let wanted = |source: usize, target: usize| match &self.pairs {
            Pairs::All => true,
            Pairs::Upgrades => source <= target,
            Pairs::Adjacent => source + 1 == target,
            Pairs::Listed(listed) => {
                listed.iter().any(|(from, to)| from.takes(named(source)) && to.takes(named(target)))
            }
        };
        let indices = || 0..self.kernels.len();
        indices()
            .flat_map(|source| indices().map(move |target| (source, target)))
            .filter(|(source, target)| wanted(*source, *target))
            .map(|(source, target)| (self.kernels[source].clone(), self.kernels[target].clone()))
            .collect()
    }
}

/// What names may stand for.
pub struct Known<'a> {
    /// The names of the catalog.
    pub kernels: &'a [&'a str],
    /// The names of the workloads.
    pub workloads: &'a [&'a str],
    /// The names of the profiles.
    pub profiles: &'a [&'a str],
}

/// Whether a kernel's name is a path.
pub fn is_path(name: &str) -> bool {
    name.contains('/') || name == "."
}

/// Reads a file.
pub fn read(file: &str, text: &str, known: &Known<'_>) -> Result<MatrixFile, Mistakes> {
    document::read(file, text, |table| {
        let programs = program::read(file, table, known);
        let own = programs.iter().flatten().map(|program| program.workload.as_str());
        let workloads: Vec<&str> = known.workloads.iter().copied().chain(own).collect();
        let known = &Known { workloads: &workloads, ..*known };
        let matrices = table.named("matrix", |name, table| matrix(name.text, table, known));
        // Of what an unreadable matrix has, nothing can be said.
        let expectations = expect::read(table, matrices.as_ref(), known);
        Some(MatrixFile { matrices: matrices?, expectations, programs: programs? })
    })
}

fn matrix(name: &str, table: &Table<'_>, known: &Known<'_>) -> Option<Matrix> {
    let kernels = names(table, "kernels", |kernel| {
        if !is_path(kernel.text) && !known.kernels.contains(&kernel.text) {
            unknown(kernel, "kernel", known.kernels, "; a path has a `/` in it");
        }
    });
    let workloads = names(table, "workloads", |workload| {
        if !known.workloads.iter().any(|name| matches(workload.text, name)) {
            unknown(workload, "workload", known.workloads, "");
        }
    });
    let profiles = names(table, "profiles", |profile| {
        if !known.profiles.contains(&profile.text) {
            unknown(profile, "profile", known.profiles, "");
        }
    });
    let some = |key: &str, names: Option<Vec<String>>| {
        if names.as_ref().is_some_and(Vec::is_empty) {
            table.wrong(format!("matrix `{name}` has no {key}"), None);
        }
        names.filter(|names| !names.is_empty())
    };
    let (kernels, workloads) = (some("kernels", kernels), some("workloads", workloads));
    let pairs = pairs(table, kernels.as_deref());
    let deadlines = table.table("deadlines", deadlines).unwrap_or_default();
    let budget =
        |table: &Table<'_>| Some(Budget { jobs: table.number("jobs"), memory_mib: table.number("memory_mib") });
    let budget = table.table("budget", budget).unwrap_or_default();
    Some(Matrix {
        name: name.to_owned(),
        kernels: kernels?,
        pairs: pairs?,
        workloads: workloads?,
        profiles: profiles?,
        deadlines,
        budget,
    })
}

/// The names in a list, each criticised by `check`. None if one of them is wrong, which is told.
fn names(table: &Table<'_>, key: &'static str, check: impl Fn(&Text<'_>)) -> Option<Vec<String>> {
    let before = table.mistakes();
    let texts = table.texts(key);
    texts.iter().for_each(check);
    let are_right = table.mistakes() == before;
    // A name that stands twice is a mistake, and yet it is known what is meant.
    once(&texts);
    are_right.then(|| texts.iter().map(|text| text.text.to_owned()).collect())
}

/// Cells are made of each name once.
fn once(texts: &[Text<'_>]) {
    for (place, text) in texts.iter().enumerate() {
        if texts[..place].iter().any(|before| before.text == text.text) {
            text.wrong(format!("`{}` stands here twice", text.text), None);
        }
    }
}

/// Which pairs. None if one is wrong, which is told; that one takes none of `kernels` is told if those are right.
fn pairs(table: &Table<'_>, kernels: Option<&[String]>) -> Option<Pairs> {
    let before = table.mistakes();
    let hint =
        || Some(format!("all, upgrades, adjacent, or a list such as [\"7.1 -> >=7.2\"]; a range is {RANGE_SYNTAX}"));
    let texts = table.text_or_texts("pairs");
    let pairs = match texts.as_slice() {
        [] => {
            if table.mistakes() == before {
                table.wrong("`pairs` is missing", hint());
            }
            None
        }
        [one] if one.text == "all" => Some(Pairs::All),
        [one] if one.text == "upgrades" => Some(Pairs::Upgrades),
        [one] if one.text == "adjacent" => {
            if kernels.is_some_and(|kernels| kernels.len() == 1) {
                one.wrong("one kernel has no next one", None);
            }
            Some(Pairs::Adjacent)
        }
        listed => {
            let pair = |text: &Text<'_>| {
                let sides = text.text.split_once("->").map(|(from, to)| (from.trim().parse(), to.trim().parse()));
                let Some((Ok(from), Ok(to))) = sides else {
                    text.wrong(format!("`{}` is no choice of pairs", text.text), hint());
                    return None;
                };
                let (from, to): (KernelPattern, KernelPattern) = (from, to);
                // A kernel of the catalog has the release that is its name; what a path has is not known yet.
                let taken = |kernels: &[String], pattern: &KernelPattern| {
                    kernels.iter().any(|name| is_path(name) || pattern.takes(Named { name, release: name }))
                };
                if kernels.is_some_and(|kernels| !(taken(kernels, &from) && taken(kernels, &to))) {
                    text.wrong(format!("`{}` takes no pair of this matrix's kernels", text.text), None);
                }
                Some((from, to))
            };
            listed.iter().map(pair).collect::<Vec<_>>().into_iter().collect::<Option<_>>().map(Pairs::Listed)
        }
    };
    pairs.filter(|_| table.mistakes() == before)
}

/// Longer than this nobody waits for a phase.
const LONGEST: u64 = 24 * 60 * 60;

fn deadlines(table: &Table<'_>) -> Option<Deadlines> {
    let mut deadlines = Deadlines::default();
    for (name, seconds) in table.all_numbers() {
        match Phase::from_word(name.text) {
            Some(_) if seconds == 0 => name.wrong(format!("no {} is done in 0 s", name.text), None),
            Some(_) if seconds > LONGEST => name.wrong(format!("{seconds} s is longer than a day"), None),
            Some(phase) => deadlines.set(phase, seconds),
            None => unknown(&name, "phase", &Phase::ALL.map(Phase::word), ""),
        }
    }
    Some(deadlines)
}

pub(crate) fn unknown(text: &Text<'_>, what: &str, known: &[&str], more: &str) {
    let hint = nearest(text.text, known.iter().copied())
        .map_or_else(|| format!("known: {}{more}", known.join(", ")), |near| format!("is `{near}` meant?"));
    text.wrong(format!("unknown {what} `{}`", text.text), Some(hint));
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known<'_> = Known {
        kernels: &["6.19.14", "7.0.13", "7.1.13", "7.2.12", "7.3.4"],
        workloads: &["memfd.basic"],
        profiles: &["q35-intel"],
    };

    fn pairs_of(matrix: &Matrix) -> Vec<(String, String)> {
        matrix.pairs(str::to_owned)
    }

    #[test]
    fn pairs_by_name_and_by_ranges() {
        let of = |pairs: &str| {
            let text = format!(
                "[matrix.a]\nkernels = [\"7.0.13\", \"7.1.13\", \"7.2.12\"]\npairs = {pairs}\nworkloads = [\"*\"]\n"
            );
            pairs_of(&read("m.toml", &text, &KNOWN).unwrap().matrices[0])
                .into_iter()
                .map(|(source, target)| format!("{} {}", &source[..3], &target[..3]))
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(of("\"upgrades\""), "7.0 7.0, 7.0 7.1, 7.0 7.2, 7.1 7.1, 7.1 7.2, 7.2 7.2");
        assert_eq!(of("\"adjacent\""), "7.0 7.1, 7.1 7.2");
        assert_eq!(of("[\"<7.2 -> 7.2\", \"7.2.12 -> 7.0\"]"), "7.0 7.2, 7.1 7.2, 7.2 7.0");
        assert_eq!(of("\"7.1 -> *\""), "7.1 7.0, 7.1 7.1, 7.1 7.2");
    }

    #[test]
    fn numbers_may_be_written_in_any_way() {
        let text = "[matrix.a]\nkernels = [\"7.3.4\"]\npairs = \"all\"\nworkloads = [\"*\"]\n\
                    [matrix.a.budget]\njobs = 0b11\nmemory_mib = 0x2000\n[matrix.a.deadlines]\nboot = 1_0\n";
        let matrix = &read("m.toml", text, &KNOWN).unwrap().matrices[0];
        assert_eq!(matrix.budget, Budget { jobs: Some(3), memory_mib: Some(8192) });
        assert_eq!(matrix.deadlines.of(Phase::Boot).as_secs(), 10);
    }

    #[test]
    fn mistakes_name_their_places() {
        let text = "[matrix.a]\nkernels = [\"7.2.122\", \"./tree\"]\npairs = \"al\"\nworkloads = [\"memfd.*\", \"vfio.*\"]\n\
                    [matrix.a.deadlines]\nbot = 3\nboot = 0\nkexec = -3\nload = 86401\nverify = 0xfffffffffffffffff\n[matrix.b]\npairs = \"all\"\n\
                    [matrix.c]\nkernels = [\"7.3.4\"]\npairs = \"adjacent\"\nworkloads = [\"*\", \"*\"]\n";
        let told = read("m.toml", text, &KNOWN).unwrap_err().to_string();
        for line in [
            "m.toml:2:12: unknown kernel `7.2.122`\n  hint: is `7.2.12` meant?",
            "m.toml:3:9: `al` is no choice of pairs\n  hint: all, upgrades, adjacent, or a list such as",
            "m.toml:4:25: unknown workload `vfio.*`\n  hint: known: memfd.basic",
            "m.toml:6:1: unknown phase `bot`\n  hint: is `boot` meant?",
            "m.toml:7:1: no boot is done in 0 s",
            "m.toml:8:9: `kexec` must be a whole number that is not negative",
            "m.toml:9:1: 86401 s is longer than a day",
            "m.toml:10:10: `verify` is too large a number",
            "m.toml:15:9: one kernel has no next one",
            "m.toml:16:19: `*` stands here twice",
            "matrix `b` has no kernels",
            "matrix `b` has no workloads",
        ] {
            assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
        }
        assert!(!told.contains("./tree"), "{told}");
    }

    #[test]
    fn a_mistake_in_a_matrix_is_told_once_and_not_of_what_builds_on_it() {
        let right = ["kernels = [\"7.2.12\", \"7.3.4\"]", "pairs = \"all\"", "workloads = [\"*\"]"];
        let told = |matrix: &str| {
            let text = format!(
                "{matrix}\n[[expect]]\nsource = \"7.2\"\ntarget = \"7.3\"\noutcome = \"crashed\"\nreason = \"x\"\n"
            );
            read("m", &text, &KNOWN).map_or_else(|told| told.to_string(), |_| String::new())
        };
        assert_eq!(told(&format!("[matrix.a]\n{}", right.join("\n"))), "");
        for (line, wrong, expected) in [
            (0, "kernels = \"7.2.12\"", "m:2:11: `kernels` must be a list of strings, not a string"),
            (0, "kernels = [\"7.3.4\", 7.2]", "m:2:21: `kernels` must be a string, not a fraction"),
            (0, "kernels = [\"7.2.12\", \"7.3.44\"]", "m:2:22: unknown kernel `7.3.44`\n  hint: is `7.3.4` meant?"),
            (0, "kernels = []", "m:1:1: matrix `a` has no kernels"),
            (1, "pairs = 7", "m:3:9: `pairs` must be a list of strings, not a number"),
            (1, "pairs = [\"7.3 -> 7.3\", 7]", "m:3:24: `pairs` must be a string, not a number"),
            (1, "pairs = \"7.2 -> 7.9\"", "m:3:9: `7.2 -> 7.9` takes no pair of this matrix's kernels"),
            (2, "workloads = \"*\"", "m:4:13: `workloads` must be a list of strings, not a string"),
            (2, "workloads = [\"vfio.*\"]", "m:4:14: unknown workload `vfio.*`\n  hint: known: memfd.basic"),
            (2, "workloads = []", "m:1:1: matrix `a` has no workloads"),
        ] {
            let mut lines = right;
            lines[line] = wrong;
            assert_eq!(told(&format!("[matrix.a]\n{}", lines.join("\n"))), expected, "{wrong}");
        }
        let typo = "[matrix.a]\nkernels = [\"7.3.44\"]\npairs = [\"7.2 -> 7.3\"]\nworkloads = [\"*\"]";
        assert_eq!(told(typo), "m:2:12: unknown kernel `7.3.44`\n  hint: is `7.3.4` meant?");
        let one = "[matrix.a]\nkernels = [\"7.3.4\", 7.2]\npairs = \"adjacent\"\nworkloads = [\"*\"]";
        assert_eq!(told(one), "m:2:21: `kernels` must be a string, not a fraction");
        assert_eq!(told("[matrix]\na = 3"), "m:2:5: `a` must be a table, not a number");
        assert_eq!(told("[[matrix]]\npairs = \"all\""), "m:1:1: `matrix` must be a table, not a list");
        // A matrix that can be read is looked at, whatever else is wrong with it.
        let late = format!("[matrix.a]\n{}\ndeadlines = {{ boot = 0 }}", right.join("\n").replace("7.2.12", "7.1.13"));
        assert_eq!(told(&late), "m:5:15: no boot is done in 0 s\nm:7:10: `7.2` takes no kernel of any matrix");
    }
}
