//! `matrix.toml`: named matrices of kernels, pairs, workloads and deadlines.

use crate::deadlines::Deadlines;
use crate::document::{self, Mistakes, Table, Text, nearest};
use luqual_model::Phase;
use std::str::FromStr;

/// The matrices that luqual brings.
pub const EMBEDDED: &str = include_str!("../../../matrix.toml");

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
    /// The deadlines of all of its cells.
    pub deadlines: Deadlines,
}

/// Which pairs of a list of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Each with each, itself included.
    All,
    /// Each with itself and with each that comes after it in the list.
    Upgrades,
    /// Each with the one that comes next in the list.
    Adjacent,
}

impl FromStr for Pairs {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "all" => Ok(Self::All),
            "upgrades" => Ok(Self::Upgrades),
            "adjacent" => Ok(Self::Adjacent),
            _ => Err(()),
        }
    }
}

impl Matrix {
    /// All pairs, source first, in the order of the list.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let wanted = |source: usize, target: usize| match self.pairs {
            Pairs::All => true,
            Pairs::Upgrades => source <= target,
            Pairs::Adjacent => source + 1 == target,
        };
        let numbered = || self.kernels.iter().map(String::as_str).enumerate();
        numbered()
            .flat_map(|(at, source)| {
                numbered().filter(move |(to, _)| wanted(at, *to)).map(move |(_, target)| (source, target))
            })
            .collect()
    }
}

/// Reads all matrices of a file. `kernels` and `workloads` say what a name may be.
pub fn read(file: &str, text: &str, known: &Known<'_>) -> Result<Vec<Matrix>, Mistakes> {
    document::read(file, text, |table| Some(table.named("matrix", |name, table| matrix(name.text, table, known))))
}

/// What names may stand for.
pub struct Known<'a> {
    /// The names of the catalog.
    pub kernels: &'a [&'a str],
    /// The names of the workloads.
    pub workloads: &'a [&'a str],
}

fn matrix(name: &str, table: &Table<'_>, known: &Known<'_>) -> Option<Matrix> {
    let kernels = table.texts("kernels");
    for kernel in &kernels {
        let is_path = kernel.text.contains('/') || kernel.text == ".";
        if !is_path && !known.kernels.contains(&kernel.text) {
            unknown(kernel, "kernel", known.kernels, "; a path has a `/` in it");
        }
    }
    if kernels.is_empty() {
        table.wrong(format!("matrix `{name}` has no kernels"), None);
    }
    let workloads = table.texts("workloads");
    for workload in &workloads {
        if !known.workloads.iter().any(|name| matches(workload.text, name)) {
            unknown(workload, "workload", known.workloads, "");
        }
    }
    if workloads.is_empty() {
        table.wrong(format!("matrix `{name}` has no workloads"), None);
    }
    let pairs = table.needed_text("pairs").and_then(|pairs| {
        let read = pairs.text.parse().ok();
        if read.is_none() {
            pairs
                .wrong(format!("`{}` is no choice of pairs", pairs.text), Some("all, upgrades or adjacent".to_owned()));
        }
        read
    });
    let mut deadlines = Deadlines::default();
    table.table("deadlines", |table| {
        for (name, seconds) in table.all_numbers() {
            match Phase::from_word(name.text) {
                Some(_) if seconds == 0 => name.wrong(format!("no {} is done in 0 s", name.text), None),
                Some(phase) => deadlines.set(phase, seconds),
                None => unknown(&name, "phase", &Phase::ALL.map(Phase::word), ""),
            }
        }
        Some(())
    });
    let list = |texts: &[Text<'_>]| texts.iter().map(|text| text.text.to_owned()).collect();
    Some(Matrix {
        name: name.to_owned(),
        kernels: list(&kernels),
        pairs: pairs?,
        workloads: list(&workloads),
        deadlines,
    })
}

fn unknown(text: &Text<'_>, what: &str, known: &[&str], more: &str) {
    let hint = nearest(text.text, known.iter().copied())
        .map_or_else(|| format!("known: {}{more}", known.join(", ")), |near| format!("is `{near}` meant?"));
    text.wrong(format!("unknown {what} `{}`", text.text), Some(hint));
}

/// Whether `name` matches `glob`, in which `*` stands for any text and `?` for one character.
pub fn matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    // reachable[n]: the glob so far matches the first n characters of the name.
    let mut reachable: Vec<bool> = (0..=name.len()).map(|length| length == 0).collect();
    for wanted in glob {
        if wanted == '*' {
            let first = reachable.iter().position(|reached| *reached).unwrap_or(reachable.len());
            reachable.iter_mut().skip(first).for_each(|reached| *reached = true);
        } else {
            for length in (1..=name.len()).rev() {
                reachable[length] = reachable[length - 1] && (wanted == '?' || wanted == name[length - 1]);
            }
            reachable[0] = false;
        }
    }
    reachable[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known<'_> = Known { kernels: &["7.2.12", "7.3.4"], workloads: &["memfd.basic"] };

    #[test]
    fn the_embedded_matrices_are_right_and_quick_is_four_pairs() {
        let matrices = read("matrix.toml", EMBEDDED, &KNOWN).unwrap();
        let quick = matrices.iter().find(|matrix| matrix.name == "quick").unwrap();
        let pairs = [("7.2.12", "7.2.12"), ("7.2.12", "7.3.4"), ("7.3.4", "7.2.12"), ("7.3.4", "7.3.4")];
        assert_eq!(quick.pairs(), pairs);
    }

    #[test]
    fn mistakes_name_their_places() {
        let text = "[matrix.a]\nkernels = [\"7.2.13\", \"./tree\"]\npairs = \"al\"\nworkloads = [\"memfd.*\", \"vfio.*\"]\n\
                    [matrix.a.deadlines]\nbot = 3\nboot = 0\n[matrix.b]\npairs = \"all\"\n";
        let told = read("m.toml", text, &KNOWN).unwrap_err().to_string();
        for line in [
            "m.toml:2:12: unknown kernel `7.2.13`\n  hint: is `7.2.12` meant?",
            "m.toml:3:9: `al` is no choice of pairs\n  hint: all, upgrades or adjacent",
            "m.toml:4:25: unknown workload `vfio.*`\n  hint: known: memfd.basic",
            "m.toml:6:1: unknown phase `bot`\n  hint: is `boot` meant?",
            "m.toml:7:1: no boot is done in 0 s",
            "matrix `b` has no kernels",
            "matrix `b` has no workloads",
        ] {
            assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
        }
        assert!(!told.contains("./tree"), "{told}");
    }

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("memfd.*", "memfd.basic", true),
            ("*", "memfd.basic", true),
            ("*.basic", "memfd.basic", true),
            ("memfd.basi?", "memfd.basic", true),
            ("m*d*c", "memfd.basic", true),
            ("memfd", "memfd.basic", false),
            ("memfd.*x", "memfd.basic", false),
            ("", "memfd.basic", false),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob}");
        }
    }
}
