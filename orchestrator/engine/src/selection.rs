//! Selects cells: from a request and the matrix file to names.

use crate::duplicates::distinct;
use crate::error::EngineError;
use crate::profiles::Profiles;
use crate::registry::Registry;
use crate::request::{Otherwise, Pairs, Selection};
use luqual_config::matrix::{self, KnownNames, Matrix, MatrixFile};
use luqual_config::{Budget, Deadlines, Expectations, Filter, Named, Subject, matches, own_machines};
use luqual_kernels::{Catalog, KernelError, Store};
use luqual_model::bounds::TEXT_FILE;
use luqual_model::{CellKey, Partition};
use luqual_protocol::{Workload, workloads};
use std::collections::BTreeMap;
use std::path::Path;

/// The selected cells.
#[derive(Clone)]
pub struct Chosen {
    /// The cells, in plan order.
    pub cells: Vec<CellKey>,
    /// The deadlines of the phases under KVM.
    pub deadlines: Deadlines,
    /// The matrix's budget of the host's resources.
    pub budget: Budget,
    /// The expectations.
    pub expectations: Expectations,
    /// The workloads by name.
    pub registry: Registry,
    /// The partition, if this is a part of the selection.
    pub partition: Option<Partition>,
    /// The seed, if the selection determines one.
    pub seed: Option<u64>,
}

impl Selection {
    /// Selects the cells. An error names the first unknown name.
    pub fn choose(&self, store: &Store, pairs: &Pairs) -> Result<Chosen, EngineError> {
        let filter = self.filter.as_deref().map(str::parse::<Filter>).transpose().map_err(EngineError::usage)?;
        let MatrixFile { matrices, machines: own, expectations, programs, .. } = self.read_matrix_file(store, pairs)?;
        let registry = Registry::new(&programs, Profiles::new(&own, self.size), store)?;
        let matrix = match pairs {
            Pairs::Matrix(name) => Some(named(matrices, name)?),
            Pairs::One(..) | Pairs::BothWays(..) => None,
        };
        let pairs: Vec<(String, String)> = match (pairs, &matrix) {
            (_, Some(matrix)) => {
                distinct(store, &matrix.name, &matrix.kernels)?;
                let releases = releases(store, matrix.kernels.iter().map(String::as_str))?;
                matrix.pairs(|name| releases.get(name).cloned().unwrap_or_default())
            }
            (Pairs::One(source, target), None) => vec![(source.clone(), target.clone())],
            // Two names can be one kernel: a commit, and a branch that is there.
            (Pairs::BothWays(source, target), None) => both_ways(&store.name(source)?, &store.name(target)?),
            (Pairs::Matrix(_), None) => Vec::new(),
        };
        let workloads = self.workloads_of(matrix.as_ref(), &registry)?;
        let profiles = self.profiles_of(matrix.as_ref(), &registry)?;

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
                "the filter matches no cell; `luqual plan` without the filter lists the cells"
            } else {
                "the matrix has no pair of kernels"
            };
            return Err(EngineError::usage("the selection has no cells").hint(hint));
        }
        let (deadlines, budget) = matrix.map(|matrix| (matrix.deadlines, matrix.budget)).unwrap_or_default();
        Ok(Chosen { cells, deadlines, budget, expectations, registry, partition: None, seed: None })
    }

    fn read_matrix_file(&self, store: &Store, pairs: &Pairs) -> Result<MatrixFile, EngineError> {
        match pairs {
            Pairs::Matrix(_) if self.matrix_file.is_none() && !store.catalog().is_own() => {
                Err(EngineError::usage("luqual's own matrices use the kernels of luqual's own catalog")
                    .hint("with --catalog, also give --matrix-file, or one pair by --source and --target"))
            }
            _ => matrix_file(self.matrix_file.as_deref(), store),
        }
    }

    fn workloads_of(
        &self,
        matrix: Option<&Matrix>,
        registry: &Registry,
    ) -> Result<Vec<&'static Workload>, EngineError> {
        let is_asked = |workload: &Workload| match &self.otherwise {
            Otherwise::All => workload.only_named.is_none(),
            Otherwise::Required(globs) => {
                let is_left_out = workload.only_named.is_some() || workload.left_out.is_some();
                globs.iter().any(|glob| glob == workload.name || !is_left_out && matches(glob, workload.name))
            }
            Otherwise::Only(name) => workload.name == name,
        };
        match (self.workloads.as_slice(), matrix) {
            ([], None) => Ok(registry.all().filter(|workload| is_asked(workload)).collect()),
            ([], Some(matrix)) => registry.to_run(&matrix.workloads),
            (globs, _) => registry.to_run(globs),
        }
    }

    /// The names of the profiles, each once.
    fn profiles_of(&self, matrix: Option<&Matrix>, registry: &Registry) -> Result<Vec<String>, EngineError> {
        let names = match self.profiles.as_slice() {
            [] => matrix.map(|matrix| matrix.profiles.clone()).unwrap_or_default(),
            some => some.to_vec(),
        };
        let mut profiles: Vec<String> = Vec::new();
        for name in names {
            registry.profiles.find(&name)?;
            if !profiles.contains(&name) {
                profiles.push(name);
            }
        }
        Ok(profiles)
    }
}

/// The user's matrix file, or luqual's own. The matrices of luqual's own file require its own catalog; its expectations hold
/// by release, whatever catalog a kernel comes from.
pub fn matrix_file(file: Option<&Path>, store: &Store) -> Result<MatrixFile, EngineError> {
    match file {
        Some(file) => read_matrix_file(file, store).map(|(_, file)| file),
        None => {
            let own = own_matrix_file()?;
            match store.catalog().is_own() {
                true => Ok(own),
                false => Ok(MatrixFile { expectations: own.expectations, ..MatrixFile::default() }),
            }
        }
    }
}

fn own_matrix_file() -> Result<MatrixFile, EngineError> {
    parse_for(&Catalog::load(None)?, "matrix.toml", matrix::EMBEDDED)
}

/// Reads the user's matrix file: its text, and its meaning. Its expectations are added to luqual's own, unless it says that
/// they replace them.
pub fn read_matrix_file(file: &Path, store: &Store) -> Result<(String, MatrixFile), EngineError> {
    let text = luqual_files::read_text(file, TEXT_FILE).map_err(EngineError::named(file))?;
    let mut read = parse_matrix_file(&file.display().to_string(), &text, store)?;
    if !read.stands_alone {
        read.expectations = own_matrix_file()?.expectations.refined_by(read.expectations);
    }
    Ok((text, read))
}

/// Parses the text of a matrix file.
pub fn parse_matrix_file(name: &str, text: &str, store: &Store) -> Result<MatrixFile, EngineError> {
    parse_for(store.catalog(), name, text)
}

fn parse_for(catalog: &Catalog, name: &str, text: &str) -> Result<MatrixFile, EngineError> {
    let workloads: Vec<&str> = workloads().map(|workload| workload.name).collect();
    let profiles: Vec<&str> = own_machines().iter().map(|profile| profile.name.as_str()).collect();
    let known = KnownNames { kernels: &catalog.versions(), workloads: &workloads, profiles: &profiles };
    Ok(matrix::read(name, text, &known)?)
}

/// The profiles that a workload runs on.
fn machines<'a>(workload: &'static Workload, profiles: &'a [String]) -> impl Iterator<Item = &'a str> {
    let own = profiles.is_empty().then_some(workload.profile);
    own.into_iter().chain(profiles.iter().map(String::as_str))
}

/// A cell as filters and expectations see it.
pub fn subject<'a>(key: &'a CellKey, source: &'a str, target: &'a str) -> Subject<'a> {
    Subject {
        source: Named { name: &key.source, release: source },
        target: Named { name: &key.target, release: target },
        profile: &key.profile,
        workload: &key.workload,
    }
}

fn named(matrices: Vec<Matrix>, name: &str) -> Result<Matrix, EngineError> {
    let names: Vec<String> = matrices.iter().map(|matrix| matrix.name.clone()).collect();
    matrices.into_iter().find(|matrix| matrix.name == name).ok_or_else(|| {
        let known = if names.is_empty() {
            "the file has no matrix".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        EngineError::usage(format!("there is no matrix `{name}`")).hint(known)
    })
}

/// The update, the way back, and each kernel into itself; once each.
fn both_ways(source: &str, target: &str) -> Vec<(String, String)> {
    let all = [(source, target), (target, source), (source, source), (target, target)];
    // A kernel's update into itself is all four.
    let pairs = if source == target { &all[..1] } else { &all[..] };
    pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

/// The releases of kernels by name, as far as they are known before the kernels are built.
fn releases<'a>(store: &Store, names: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, String>, EngineError> {
    of_each(names, |name| store.release(name))
}

fn in_pairs(pairs: &[(String, String)]) -> impl Iterator<Item = &str> {
    pairs.iter().flat_map(|(source, target)| [source.as_str(), target.as_str()])
}

/// Calls a function once for each name, and collects the results.
fn of_each<'a>(
    names: impl Iterator<Item = &'a str>,
    ask: impl Fn(&str) -> Result<String, KernelError>,
) -> Result<BTreeMap<String, String>, EngineError> {
    let mut known = BTreeMap::new();
    for name in names {
        if !known.contains_key(name) {
            known.insert(name.to_owned(), ask(name)?);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::Outcome;

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
    fn expectations_hold_by_release_and_a_file_of_ones_own_adds_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let kernel = "tree = \"/t\"\nbase = \"allnoconfig\"\nfragments = [\"luqual.config\"]\ncommand_line = \"\"\n";
        let catalog = write("catalog.toml", format!("[kernel.\"7.3.4-mine\"]\n{kernel}"));
        let store = Store::new("nowhere".into(), Catalog::load(Some(&catalog)).unwrap(), None);
        let outcome = |file: &MatrixFile, workload: &str| {
            let key = CellKey {
                source: "7.3.4-mine".into(),
                target: "./bzImage".into(),
                profile: "q35-intel".into(),
                workload: workload.into(),
            };
            file.expectations.of(&subject(&key, "7.3.4", "7.3.4+deb13-cloud-amd64")).map(|it| it.outcome)
        };
        let of = |file: Option<&Path>| matrix_file(file, &store).unwrap_or_else(|error| panic!("{error:?}"));
        let own = of(None);
        assert_eq!(outcome(&own, "luo.ioctl-unknown"), Some(Outcome::Lost));
        // Its matrices have kernels of luqual's catalog.
        assert!(own.matrices.is_empty());
        let matrix = "[matrix.a]\nkernels = [\"7.3.4-mine\"]\npairs = \"all\"\nworkloads = [\"*\"]\n[[expect]]\n\
                      source = \"7.3.4-mine\"\ntarget = \"*\"\nworkload = \"memfd.basic\"\noutcome = \"survived\"\nreason = \"x\"\n";
        let file = write("m.toml", matrix.to_owned());
        let added = of(Some(&file));
        assert_eq!(outcome(&added, "luo.ioctl-unknown"), Some(Outcome::Lost));
        assert_eq!(outcome(&added, "memfd.basic"), Some(Outcome::Survived));
        let file = write("m.toml", format!("replace_expectations = true\n{matrix}"));
        let alone = of(Some(&file));
        assert_eq!(outcome(&alone, "luo.ioctl-unknown"), None);
        assert_eq!(outcome(&alone, "memfd.basic"), Some(Outcome::Survived));
    }

    #[test]
    fn both_ways_are_the_update_first_and_nothing_twice() {
        let told = |source, target| {
            let pairs = both_ways(source, target);
            pairs.iter().map(|(from, to)| format!("{from}{to}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((told("a", "b").as_str(), told("a", "a").as_str()), ("ab ba aa bb", "aa"));
    }

    #[test]
    fn what_takes_minutes_is_run_only_by_its_own_name() {
        let store = Store::new("nowhere".into(), Catalog::load(None).unwrap(), None);
        let registry = Registry::new(&[], Profiles::default(), &store).unwrap_or_else(|error| panic!("{error:?}"));
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
