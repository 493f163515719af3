//! `[matrix.NAME]`: which kernels, pairs, workloads and profiles make the cells of a matrix.

use crate::deadlines::Deadlines;
use crate::document::{Table, Text};
use crate::filter::{KernelPattern, Named};
use crate::names::{KnownNames, is_path, unknown};
use luqual_model::{Phase, RANGE_SYNTAX, Version, matches};
use std::collections::BTreeMap;

/// A named matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Its name.
    pub name: String,
    /// The kernels of its pairs, by catalog name or path.
    pub kernels: Vec<String>,
    /// The pairs of these kernels.
    pub pairs: Pairs,
    /// The workloads: names or globs.
    pub workloads: Vec<String>,
    /// The profiles for every workload; empty if each workload runs on the profile that it declares.
    pub profiles: Vec<String>,
    /// The deadlines of its cells.
    pub deadlines: Deadlines,
    /// How much of the host a run of it may use.
    pub budget: Budget,
}

/// How much of the host a run may use. An absent limit follows from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// How many machines may run at once.
    pub jobs: Option<u64>,
    /// The memory of all machines that run at once, in MiB.
    pub memory_mib: Option<u64>,
}

/// The pairs of a list of kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Every kernel with every kernel, itself included.
    All,
    /// Every kernel with itself and with every later one in the list.
    Upgrades,
    /// Every kernel with the next one in the list.
    Adjacent,
    /// The first kernel with itself, and with every other one, both ways.
    WithFirst,
    /// The pairs that match one of these patterns: source, target.
    Listed(Vec<(KernelPattern, KernelPattern)>),
}

impl Matrix {
    /// Whether `takes` accepts one of the pairs. The release of a path is not known yet, so a matrix with a path may
    /// have any pair.
    pub(crate) fn has_pair(&self, takes: impl Fn(&str, &str) -> bool) -> bool {
        let all = || self.kernels.iter().flat_map(|source| self.kernels.iter().map(move |target| (source, target)));
        if self.kernels.iter().any(|name| is_path(name)) {
            return all().any(|(source, target)| takes(source, target));
        }
        self.pairs(str::to_owned).iter().any(|(source, target)| takes(source, target))
    }

    /// All pairs, source first, in the order of the list. `release` returns the release of a kernel by its name.
    pub fn pairs(&self, release: impl Fn(&str) -> String) -> Vec<(String, String)> {
        let releases: Vec<String> = self.kernels.iter().map(|name| release(name)).collect();
        let named = |index: usize| Named { name: &self.kernels[index], release: &releases[index] };
        let wanted = |source: usize, target: usize| match &self.pairs {
            Pairs::All => true,
            Pairs::Upgrades => source <= target,
            Pairs::Adjacent => source + 1 == target,
            Pairs::WithFirst => source == 0 || target == 0,
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

/// The first series with the Live Update Orchestrator (kernel/liveupdate/).
const FIRST_WITH_LUO: [u64; 2] = [6, 19];

/// The newest releases of each series, the newest first. A name that is no version is another build of one.
fn newest(known: &[&str], count: u64) -> Vec<String> {
    let mut releases: Vec<(Version, &str)> =
        known.iter().filter_map(|name| Some((Version::whole(name)?, *name))).collect();
    releases.sort_by(|one, other| other.cmp(one));
    let mut of_series: BTreeMap<[u64; 2], u64> = BTreeMap::new();
    releases.retain(|(version, _)| {
        version.series().filter(|series| *series >= FIRST_WITH_LUO).is_some_and(|series| {
            let seen = of_series.entry(series).or_default();
            *seen += 1;
            *seen <= count
        })
    });
    releases.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// The kernels of a matrix. None if one is wrong, which is reported.
fn kernels(table: &Table<'_>, known: &KnownNames<'_>) -> Option<Vec<String>> {
    match table.number("newest") {
        Some(_) if table.has("kernels") => {
            let hint = "leave one of them out".to_owned();
            table.wrong("`kernels` names kernels, and `newest` chooses them from the catalog", Some(hint));
            None
        }
        Some(count) => Some(newest(known.kernels, count)),
        None if table.has("newest") => None,
        None => names(table, "kernels", |kernel| {
            if !is_path(kernel.text) && !known.kernels.contains(&kernel.text) {
                unknown(kernel, "kernel", known.kernels, "; a path has a `/` in it");
            }
        }),
    }
}

/// Reads one matrix. None if a part of it is wrong, which is reported.
pub(crate) fn read(name: &str, table: &Table<'_>, known: &KnownNames<'_>) -> Option<Matrix> {
    let kernels = kernels(table, known);
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
    // An update is to a newer one, which comes later in a list.
    let is_upward = table.has("newest") && matches!(pairs, Some(Pairs::Upgrades | Pairs::Adjacent));
    let kernels = kernels.map(|kernels| if is_upward { kernels.into_iter().rev().collect() } else { kernels });
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

/// The names of a list, each checked by `check`. None if one of them is wrong, which is reported.
fn names(table: &Table<'_>, key: &'static str, check: impl Fn(&Text<'_>)) -> Option<Vec<String>> {
    let before = table.mistakes();
    let texts = table.texts(key);
    texts.iter().for_each(check);
    let are_right = table.mistakes() == before;
    // A name that is listed twice is a mistake, but its meaning is clear.
    once(&texts);
    are_right.then(|| texts.iter().map(|text| text.text.to_owned()).collect())
}

/// Reports a name that is listed twice.
fn once(texts: &[Text<'_>]) {
    for (index, text) in texts.iter().enumerate() {
        if texts[..index].iter().any(|before| before.text == text.text) {
            text.wrong(format!("`{}` is listed twice", text.text), None);
        }
    }
}

/// The pairs. None if one is wrong, which is reported. A pattern that matches none of `kernels` is reported too,
/// unless the kernels are wrong.
fn pairs(table: &Table<'_>, kernels: Option<&[String]>) -> Option<Pairs> {
    let before = table.mistakes();
    let hint = || {
        Some(format!(
            "write all, upgrades, adjacent, with-first, or a list such as [\"7.1 -> >=7.2\"]; a range is {RANGE_SYNTAX}"
        ))
    };
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
        [one] if one.text == "with-first" => Some(Pairs::WithFirst),
        [one] if one.text == "adjacent" => {
            if kernels.is_some_and(|kernels| kernels.len() == 1) {
                one.wrong("`adjacent` needs at least two kernels", None);
            }
            Some(Pairs::Adjacent)
        }
        listed => {
            let pair = |text: &Text<'_>| {
                let sides = text.text.split_once("->").map(|(from, to)| (from.trim().parse(), to.trim().parse()));
                let Some((Ok(from), Ok(to))) = sides else {
                    text.wrong(format!("`{}` does not select pairs", text.text), hint());
                    return None;
                };
                let (from, to): (KernelPattern, KernelPattern) = (from, to);
                // The release of a catalog kernel is its name. The release of a path is not known yet.
                let taken = |kernels: &[String], pattern: &KernelPattern| {
                    kernels.iter().any(|name| is_path(name) || pattern.takes(Named { name, release: name }))
                };
                if kernels.is_some_and(|kernels| !(taken(kernels, &from) && taken(kernels, &to))) {
                    text.wrong(format!("`{}` matches no pair of this matrix's kernels", text.text), None);
                }
                Some((from, to))
            };
            listed.iter().map(pair).collect::<Vec<_>>().into_iter().collect::<Option<_>>().map(Pairs::Listed)
        }
    };
    pairs.filter(|_| table.mistakes() == before)
}

/// The longest deadline, in seconds: a day.
const LONGEST: u64 = 24 * 60 * 60;

fn deadlines(table: &Table<'_>) -> Option<Deadlines> {
    let mut deadlines = Deadlines::default();
    for (name, seconds) in table.all_numbers() {
        match Phase::from_word(name.text) {
            Some(_) if seconds == 0 => name.wrong(format!("a deadline of 0 s is too short for {}", name.text), None),
            Some(_) if seconds > LONGEST => name.wrong(format!("a deadline of {seconds} s is longer than a day"), None),
            Some(phase) => deadlines.set(phase, seconds),
            None => unknown(&name, "phase", &Phase::ALL.map(Phase::word), ""),
        }
    }
    Some(deadlines)
}
