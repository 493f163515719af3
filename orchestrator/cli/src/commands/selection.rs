//! Which cells: from options and the matrix file to names. The same for every command that selects.

use super::registry::Registry;
use crate::error::CliError;
use clap::Args;
use luqual_config::matrix::{self, Known, Matrix, MatrixFile};
use luqual_config::{Budget, Deadlines, Expectations, FILTER_SYNTAX, Filter, Named, Subject};
use luqual_kernels::{KernelError, Store};
use luqual_model::{CellKey, Partition};
use luqual_protocol::{Workload, workloads};
use luqual_vm::profile::{self, PROFILES, Profile};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which cells of the pairs that were asked for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Selection")]
pub(crate) struct Selection {
    /// Where matrices and expectations are [default: luqual's own]
    #[arg(long, value_name = "FILE")]
    matrix_file: Option<PathBuf>,
    /// Which workloads, by name or glob; can be repeated. Those that take minutes (`luqual workloads show` says which) are run
    /// only by their full names [default: all others, or the matrix's]
    #[arg(long, value_name = "GLOB")]
    workload: Vec<String>,
    /// The machine, instead of the one that each workload declares; can be repeated
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Only the cells that an expression takes, such as 'source(<7.1) & target(>=7.1)'
    #[arg(long, value_name = "EXPRESSION", long_help = filter_help())]
    filter: Option<String>,
}

fn filter_help() -> String {
    format!("Only the cells that an expression takes: {FILTER_SYNTAX}. For example 'source(<7.1) & !target(7.3)'")
}

/// The pairs before anything is filtered.
#[derive(Clone, Copy)]
pub(crate) enum Pairs<'a> {
    /// Those of a named matrix.
    Matrix(&'a str),
    /// One: source, target.
    One(&'a str, &'a str),
}

/// What is to run, by names.
#[derive(Clone)]
pub(crate) struct Chosen {
    pub(crate) cells: Vec<CellKey>,
    pub(crate) deadlines: Deadlines,
    pub(crate) budget: Budget,
    pub(crate) expectations: Expectations,
    pub(crate) registry: Registry,
    /// Where they are a part of what was chosen.
    pub(crate) partition: Option<Partition>,
    /// What to draw from where nothing is given.
    pub(crate) seed: Option<u64>,
}

impl Selection {
    /// Looks everything up that has a name, and says what is wrong with it. Where neither the user nor a matrix names
    /// workloads, there are those that `asked` takes.
    pub(crate) fn choose(
        &self,
        store: &Store,
        pairs: Pairs<'_>,
        asked: impl Fn(&Workload) -> bool,
    ) -> Result<Chosen, CliError> {
        let filter = self.filter.as_deref().map(str::parse::<Filter>).transpose().map_err(CliError::usage)?;
        let MatrixFile { matrices, expectations, programs } = self.matrix_file(store, pairs)?;
        let registry = Registry::new(&programs, store)?;
        let matrix = match pairs {
            Pairs::Matrix(name) => Some(named(matrices, name)?),
            Pairs::One(..) => None,
        };
        let pairs: Vec<(String, String)> = match (pairs, &matrix) {
            (_, Some(matrix)) => {
                let releases = releases(store, matrix.kernels.iter().map(String::as_str))?;
                matrix.pairs(|name| releases.get(name).cloned().unwrap_or_default())
            }
            (Pairs::One(source, target), None) => vec![(source.to_owned(), target.to_owned())],
            (Pairs::Matrix(_), None) => Vec::new(),
        };
        let workloads = self.workloads(matrix.as_ref(), &registry, asked)?;
        let profiles = self.profiles(matrix.as_ref())?;

        let names = of_each(in_pairs(&pairs), |name| store.name(name))?;
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(source, target)| (names[source].clone(), names[target].clone())).collect();
        let releases = releases(store, in_pairs(&pairs))?;
        let release = |name: &str| releases.get(name).cloned().unwrap_or_default();
        let cells: Vec<CellKey> = pairs
            .iter()
            .flat_map(|pair| workloads.iter().map(move |workload| (pair, *workload)))
            .flat_map(|(pair, workload)| machines(workload, &profiles).map(move |profile| (pair, workload, profile)))
            .map(|((source, target), workload, profile)| CellKey {
                source: source.clone(),
                target: target.clone(),
                profile: profile.to_owned(),
                workload: workload.name.to_owned(),
            })
            .filter(|key| {
                let (source, target) = (release(&key.source), release(&key.target));
                filter.as_ref().is_none_or(|filter| filter.takes(&subject(key, &source, &target)))
            })
            .collect();
        if cells.is_empty() {
            let hint = if filter.is_some() {
                "the filter takes none of the cells; luqual plan without it shows them"
            } else {
                "the matrix has no pair of its kernels"
            };
            return Err(CliError::usage("the selection is empty").hint(hint));
        }
        let (deadlines, budget) = matrix.map(|matrix| (matrix.deadlines, matrix.budget)).unwrap_or_default();
        Ok(Chosen { cells, deadlines, budget, expectations, registry, partition: None, seed: None })
    }

    fn matrix_file(&self, store: &Store, pairs: Pairs<'_>) -> Result<MatrixFile, CliError> {
        match pairs {
            Pairs::Matrix(_) if self.matrix_file.is_none() && !store.catalog().is_own() => {
                Err(CliError::usage("luqual's own matrices are of luqual's own catalog")
                    .hint("with --catalog give a --matrix-file too, or one pair by --source and --target"))
            }
            _ => matrix_file(self.matrix_file.as_deref(), store),
        }
    }

    fn workloads(
        &self,
        matrix: Option<&Matrix>,
        registry: &Registry,
        asked: impl Fn(&Workload) -> bool,
    ) -> Result<Vec<&'static Workload>, CliError> {
        match (self.workload.as_slice(), matrix) {
            ([], None) => Ok(registry.all().filter(|workload| !workload.long && asked(workload)).collect()),
            ([], Some(matrix)) => registry.to_run(&matrix.workloads),
            (globs, _) => registry.to_run(globs),
        }
    }

    fn profiles(&self, matrix: Option<&Matrix>) -> Result<Vec<&'static str>, CliError> {
        let names = match self.profile.as_slice() {
            [] => matrix.map(|matrix| matrix.profiles.clone()).unwrap_or_default(),
            some => some.to_vec(),
        };
        let mut profiles = Vec::new();
        for name in &names {
            let profile = profile_of(name)?.name;
            if !profiles.contains(&profile) {
                profiles.push(profile);
            }
        }
        Ok(profiles)
    }
}

/// The user's matrix file, or luqual's own. What luqual brings is about the kernels that it brings.
pub(crate) fn matrix_file(file: Option<&Path>, store: &Store) -> Result<MatrixFile, CliError> {
    match file {
        Some(file) => read_matrix_file(file, store).map(|(_, file)| file),
        None if store.catalog().is_own() => parse_matrix_file("matrix.toml", matrix::EMBEDDED, store),
        None => Ok(MatrixFile::default()),
    }
}

/// A matrix file of the user's: its text, and what that means.
pub(crate) fn read_matrix_file(file: &Path, store: &Store) -> Result<(String, MatrixFile), CliError> {
    let text = fs::read_to_string(file).map_err(|error| CliError::usage(format!("{}: {error}", file.display())))?;
    let read = parse_matrix_file(&file.display().to_string(), &text, store)?;
    Ok((text, read))
}

/// What the text of a matrix file means.
pub(crate) fn parse_matrix_file(name: &str, text: &str, store: &Store) -> Result<MatrixFile, CliError> {
    let workloads: Vec<&str> = workloads().map(|workload| workload.name).collect();
    let profiles: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
    let known = Known { kernels: &store.catalog().versions(), workloads: &workloads, profiles: &profiles };
    Ok(matrix::read(name, text, &known)?)
}

/// On what a workload runs.
fn machines<'a>(workload: &'static Workload, profiles: &'a [&'static str]) -> impl Iterator<Item = &'static str> + 'a {
    let own = profiles.is_empty().then_some(workload.profile);
    own.into_iter().chain(profiles.iter().copied())
}

/// A cell for filters and expectations.
pub(crate) fn subject<'a>(key: &'a CellKey, source: &'a str, target: &'a str) -> Subject<'a> {
    Subject {
        source: Named { name: &key.source, release: source },
        target: Named { name: &key.target, release: target },
        profile: &key.profile,
        workload: &key.workload,
    }
}

/// The profile of that name, or what there is.
pub(crate) fn profile_of(name: &str) -> Result<&'static Profile, CliError> {
    profile::find(name).ok_or_else(|| {
        let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        CliError::usage(format!("there is no profile `{name}`")).hint(format!("there are {}", names.join(", ")))
    })
}

fn named(matrices: Vec<Matrix>, name: &str) -> Result<Matrix, CliError> {
    let names: Vec<String> = matrices.iter().map(|matrix| matrix.name.clone()).collect();
    matrices.into_iter().find(|matrix| matrix.name == name).ok_or_else(|| {
        let known =
            if names.is_empty() { "the file has none".to_owned() } else { format!("there are {}", names.join(", ")) };
        CliError::usage(format!("there is no matrix `{name}`")).hint(known)
    })
}

/// The releases of kernels by name, before any of them is built.
fn releases<'a>(store: &Store, names: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, String>, CliError> {
    of_each(names, |name| store.release(name))
}

fn in_pairs(pairs: &[(String, String)]) -> impl Iterator<Item = &str> {
    pairs.iter().flat_map(|(source, target)| [source.as_str(), target.as_str()])
}

/// What is to be known of each name, asked once.
fn of_each<'a>(
    names: impl Iterator<Item = &'a str>,
    ask: impl Fn(&str) -> Result<String, KernelError>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut known = BTreeMap::new();
    for name in names {
        if !known.contains_key(name) {
            known.insert(name.to_owned(), ask(name)?);
        }
    }
    Ok(known)
}

/// The ending of a word that is counted.
pub(crate) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_kernels::Catalog;

    #[test]
    fn the_matrices_that_luqual_brings_are_right() {
        let store = Store::new("nowhere".into(), Catalog::load(None).unwrap(), None);
        let file =
            parse_matrix_file("matrix.toml", matrix::EMBEDDED, &store).unwrap_or_else(|error| panic!("{error:?}"));
        let count = |name: &str| {
            let matrix = file.matrices.iter().find(|matrix| matrix.name == name).unwrap();
            matrix.pairs(str::to_owned).len()
        };
        assert_eq!((count("quick"), count("default"), count("full"), count("each")), (4, 25, 25, 9));
        assert_eq!((count("chains"), count("curves")), (6, 5));
    }

    #[test]
    fn what_takes_minutes_is_run_only_by_its_own_name() {
        let store = Store::new("nowhere".into(), Catalog::load(None).unwrap(), None);
        let registry = Registry::new(&[], &store).unwrap_or_else(|error| panic!("{error:?}"));
        let names = |globs: &[&str]| -> Vec<&str> {
            let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
            registry.to_run(&globs).map(|taken| taken.iter().map(|it| it.name).collect()).unwrap_or_default()
        };
        assert!(!names(&["*"]).contains(&"lifecycle.hundred"));
        assert_eq!(names(&["lifecycle.hundred"]), ["lifecycle.hundred"]);
        assert_eq!(names(&["lifecycle.h*"]), [""; 0]);
        assert!(names(&["*", "lifecycle.hundred"]).contains(&"lifecycle.hundred"));
    }
}
