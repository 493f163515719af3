//! Bisects kernels: finds the first one at which a cell ends otherwise.

mod order;
mod verdict;

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{IfExists, of_runs, read_folder};
use crate::kernels::open_store;
use crate::plan;
use crate::request::{Otherwise, Pairs, RunRequest, RunsOptions};
use crate::run::run_chosen;
use crate::run_folder::RunFolder;
use luqual_files::digest;
use luqual_kernels::{GitTree, Store};
use luqual_model::{CellRecord, Outcome};
use luqual_reports::end;
use order::{Next, Order, Verdicts};
use std::fs;
use std::path::{Path, PathBuf};
use verdict::{is_alike, verdict};

pub use verdict::{Verdict, flaky};

/// The request of a bisection: the kernels and the cell.
#[derive(Clone, Debug)]
pub struct BisectRequest {
    /// The good end: a kernel of the catalog, or a commit of the tree.
    pub good: String,
    /// The bad end.
    pub bad: String,
    /// A git tree whose commits are bisected.
    pub tree: Option<PathBuf>,
    /// Only these kernels of the catalog, besides the two ends; if empty, all releases.
    pub among: Vec<String>,
    /// The source of each cell; the target is bisected.
    pub source: Option<String>,
    /// The target of each cell; the source is bisected.
    pub target: Option<String>,
    /// How the cell of each kernel is selected and run; all attempts count.
    pub runs: RunsOptions,
}

/// The progress of a bisection. Kernels have their names for the user.
pub enum Look<'a> {
    /// The cell of one end.
    End(&'a str, &'a CellRecord),
    /// The number of kernels that can still be the first bad one.
    Left(usize),
    /// The verdict on a kernel, and the reason.
    Judged(Verdict, &'a str, &'a str),
}

/// The result of a bisection.
pub enum Bisected {
    /// The cells of both ends end alike, as this one does.
    EndsAlike(Box<CellRecord>),
    /// The first bad kernel.
    First {
        /// The name of the kernel for the user.
        kernel: String,
        /// Its cell.
        cell: Box<CellRecord>,
        /// The cell of the good end.
        before: Box<CellRecord>,
        /// The folder of the first bad kernel's run.
        folder: PathBuf,
    },
    /// The first bad kernel is one of these; all but the last cannot be tested.
    Among(Vec<String>),
}

/// The result for a kernel.
enum KernelResult {
    Cell(Box<CellRecord>),
    /// The kernel does not build; the text says why.
    NotBuilt(String),
}

/// Tests kernels.
trait Judge {
    /// Tests a kernel, or returns its earlier result.
    async fn look(&self, name: &str) -> Result<KernelResult, EngineError>;
}

/// Runs a bisection. `tell` gets the progress.
pub async fn bisect(
    context: &Context<'_>,
    request: &BisectRequest,
    tell: &dyn Fn(Look<'_>),
) -> Result<Bisected, EngineError> {
    let store = open_store(&request.runs.kernels)?;
    let order = match &request.tree {
        Some(tree) => Order::of_tree(GitTree::open(tree)?, &request.good, &request.bad)?,
        None => Order::of_catalog(store.catalog(), &request.good, &request.bad, &request.among)?,
    };
    let runs = Runs { context, request, store: &store, order: &order, folder: request.folder(&order)? };
    let found = look_for(&order, &runs, tell).await?;
    Ok(match found {
        Found::Alike(cell) => Bisected::EndsAlike(cell),
        Found::First { name, cell, before } => {
            Bisected::First { kernel: order.told(&name), cell, before, folder: runs.place(&name) }
        }
        Found::Among(names) => Bisected::Among(names.iter().map(|name| order.told(name)).collect()),
    })
}

/// The result, with the names of the order.
enum Found {
    Alike(Box<CellRecord>),
    First { name: String, cell: Box<CellRecord>, before: Box<CellRecord> },
    Among(Vec<String>),
}

async fn look_for(order: &Order, judge: &impl Judge, tell: &dyn Fn(Look<'_>)) -> Result<Found, EngineError> {
    let (good, bad) = order.ends();
    let first = end_of(order, judge, good, tell).await?;
    if let Some((count, of)) = flaky(&first) {
        let told = order.told(good);
        return Err(EngineError::usage(format!(
            "the good end {told} is flaky: {} in {count} of {of} attempts",
            end(&first)
        ))
        .hint("the good end has to end in the same way in each attempt; name another one"));
    }
    let last = end_of(order, judge, bad, tell).await?;
    if is_alike(&first, &last) {
        return Ok(Found::Alike(Box::new(first)));
    }
    let mut known = Verdicts::from([(good.to_owned(), Verdict::Good), (bad.to_owned(), Verdict::Bad)]);
    loop {
        let name = match order.next(&known)? {
            Next::Look(name, left) => {
                tell(Look::Left(left));
                name
            }
            Next::First(name) => {
                let KernelResult::Cell(cell) = judge.look(&name).await? else {
                    return Err(EngineError::harness(format!(
                        "the earlier result of {} was removed meanwhile",
                        order.told(&name)
                    )));
                };
                return Ok(Found::First { name, cell, before: Box::new(first) });
            }
            Next::Among(names) => return Ok(Found::Among(names)),
        };
        let seen = judge.look(&name).await?;
        let (verdict, why) = match &seen {
            KernelResult::NotBuilt(why) => (Verdict::Skip, format!("does not build: {why}")),
            KernelResult::Cell(cell) => (verdict(cell, &first, &last), told(cell)),
        };
        if verdict == Verdict::Skip
            && matches!(&seen, KernelResult::Cell(cell) if cell.outcome == Outcome::HarnessFailed)
        {
            return Err(EngineError::harness(format!("{}: {why}", order.told(&name)))
                .hint("fix the problem and run the same command again; it resumes"));
        }
        tell(Look::Judged(verdict, &order.told(&name), &why));
        known.insert(name, verdict);
    }
}

/// How a cell ended, or how often it was flaky.
fn told(cell: &CellRecord) -> String {
    match flaky(cell) {
        None => end(cell),
        Some((count, of)) => format!("flaky: {} in {count} of {of} attempts", end(cell)),
    }
}

/// The cell of an end; an error if it was skipped or the harness failed.
async fn end_of(
    order: &Order,
    judge: &impl Judge,
    name: &str,
    tell: &dyn Fn(Look<'_>),
) -> Result<CellRecord, EngineError> {
    let told = order.told(name);
    let cell = match judge.look(name).await? {
        KernelResult::Cell(cell) => cell,
        KernelResult::NotBuilt(why) => {
            return Err(EngineError::usage(format!("{told} does not build: {why}")).hint("name another end"));
        }
    };
    tell(Look::End(&told, &cell));
    match cell.outcome {
        Outcome::HarnessFailed => Err(EngineError::harness(&cell.title)),
        Outcome::Skipped => Err(EngineError::usage(format!("the cell of {told} was skipped: {}", cell.title))
            .hint("name another end, or another workload")),
        _ => Ok(*cell),
    }
}

impl BisectRequest {
    /// The folder of a bisection. The same request has the same folder, so that it finds earlier results.
    fn folder(&self, order: &Order) -> Result<PathBuf, EngineError> {
        let (good, bad) = order.ends();
        let selection = serde_json::to_string(&self.runs.selection).map_err(EngineError::own("JSON"))?;
        let requested = format!("{good} {bad} {:?} {:?} {:?} {selection}", self.tree, self.source, self.target);
        let id = digest::of_bytes(requested.as_bytes());
        Ok(of_runs(self.runs.report_dir.as_deref(), &format!("bisect-{}", &id[..8])))
    }
}

/// Tests kernels by runs on this host, in a folder.
struct Runs<'a> {
    context: &'a Context<'a>,
    request: &'a BisectRequest,
    store: &'a Store,
    order: &'a Order,
    folder: PathBuf,
}

/// The name of the file with the build error, in a folder without a run.
const NOT_BUILT: &str = "not-built.txt";

impl Judge for Runs<'_> {
    async fn look(&self, name: &str) -> Result<KernelResult, EngineError> {
        let (place, spec) = (self.place(name), self.order.spec(name));
        if let Ok(why) = luqual_files::read_text(&place.join(NOT_BUILT), luqual_model::bounds::TEXT_FILE) {
            return Ok(KernelResult::NotBuilt(why));
        }
        let building = self.context.building();
        let built = tokio::select! {
            built = self.store.resolve(&spec, &building) => built,
            () = self.context.interrupted() => return Err(EngineError::interrupted()),
        };
        match built {
            Ok(_) => {}
            Err(error) if error.is_of_the_source() => {
                let why = error.to_string().lines().take(2).map(str::trim).collect::<Vec<_>>().join(" ");
                fs::create_dir_all(&place).map_err(EngineError::named(&place))?;
                fs::write(place.join(NOT_BUILT), &why).map_err(EngineError::named(&place))?;
                return Ok(KernelResult::NotBuilt(why));
            }
            Err(error) => return Err(error.into()),
        }
        let request = self.run_of(&spec, &place);
        let chosen = plan::choose(self.store, &request)?;
        if chosen.cells.len() != 1 {
            let why = format!("a bisection follows one cell, but the selection has {}", chosen.cells.len());
            return Err(EngineError::usage(why).hint("name one workload, and one profile if it has several"));
        }
        remove_failed(&place)?;
        let interactive = self.request.runs.interactive;
        let run = run_chosen(self.context, self.store, &chosen, &request, IfExists::Resume, interactive).await?;
        if run.record.run.interrupted {
            return Err(EngineError::interrupted());
        }
        let cell = run.record.cell_of(0).map_err(EngineError::own(place.display()))?;
        Ok(KernelResult::Cell(Box::new(cell.ok_or_else(|| EngineError::harness("the cell did not end"))?)))
    }
}

impl Runs<'_> {
    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name.get(..12).filter(|_| self.request.tree.is_some()).unwrap_or(name))
    }

    /// The request of the run for one kernel.
    fn run_of(&self, spec: &str, place: &Path) -> RunRequest {
        let BisectRequest { source, target, runs, .. } = self.request;
        let of = |named: &Option<String>| named.clone().unwrap_or_else(|| spec.to_owned());
        let mut run = runs.run(Pairs::One(of(source), of(target)), place.to_owned());
        run.selection.otherwise = Otherwise::Only(WORKLOAD.to_owned());
        run
    }
}

/// The default workload.
const WORKLOAD: &str = "memfd.basic";

/// Removes an earlier run in which the harness failed, so that it runs again.
fn remove_failed(place: &Path) -> Result<(), EngineError> {
    let Ok(record) = read_folder(place) else { return Ok(()) };
    let is_broken = record.briefs().any(|(_, brief)| brief.is_some_and(|it| it.outcome == Outcome::HarnessFailed));
    drop(record);
    if is_broken { RunFolder::open(place)?.remove_run() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::verdict::tests::several;
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Kernels by name, with how the attempts at their cells end; none does not build.
    struct Fake(BTreeMap<&'static str, Vec<Outcome>>);

    impl Judge for Fake {
        async fn look(&self, name: &str) -> Result<KernelResult, EngineError> {
            Ok(match self.0[name].as_slice() {
                [] => KernelResult::NotBuilt("no rule to make it".to_owned()),
                outcomes => KernelResult::Cell(Box::new(several(outcomes))),
            })
        }
    }

    /// What is found of these, and what was told of those between the ends.
    async fn bisected(kernels: &[(&'static str, &[Outcome])]) -> (Result<Found, EngineError>, Vec<String>) {
        let order = Order::Line(kernels.iter().map(|(name, _)| (*name).to_owned()).collect());
        let fake = Fake(kernels.iter().map(|(name, outcomes)| (*name, outcomes.to_vec())).collect());
        let told = RefCell::new(Vec::new());
        let tell = |look: Look<'_>| {
            if let Look::Judged(verdict, name, why) = look {
                told.borrow_mut().push(format!("{name} {verdict:?}: {why}"));
            }
        };
        let found = look_for(&order, &fake, &tell).await;
        (found, told.into_inner())
    }

    fn first(found: Result<Found, EngineError>) -> String {
        match found {
            Ok(Found::First { name, .. }) => name,
            Ok(Found::Alike(cell)) => format!("alike: {}", cell.outcome),
            Ok(Found::Among(names)) => format!("among {}", names.join(" ")),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_kernel_that_is_bad_now_and_then_is_found() {
        use Outcome::{Lost, Survived};
        let good: &[Outcome] = &[Survived, Survived];
        let flaky: &[Outcome] = &[Lost, Survived];
        let kernels = [("a", good), ("b", good), ("c", flaky), ("d", good), ("e", &[Lost, Lost][..])];
        let (found, told) = bisected(&kernels).await;
        // By one attempt, c might have been taken for good, and e for the first.
        assert_eq!(first(found), "c");
        assert!(told[0].starts_with("c Bad: flaky: lost"), "{told:?}");
        let (found, _) = bisected(&[("a", flaky), ("b", &[Lost, Lost])]).await;
        assert!(first(found).contains(" a is flaky: "));
        // An end that is bad now and then is one.
        let (found, _) = bisected(&[("a", good), ("b", good), ("c", flaky)]).await;
        assert_eq!(first(found), "c");
    }

    #[tokio::test]
    async fn what_says_nothing_is_gone_around_and_a_broken_host_ends_it() {
        use Outcome::{HarnessFailed, Lost, Skipped, Survived};
        let (found, told) = bisected(&[("a", &[Survived]), ("b", &[]), ("c", &[Skipped]), ("d", &[Lost])]).await;
        assert_eq!(first(found), "among b c d");
        assert_eq!(told.len(), 2);
        let (found, _) = bisected(&[("a", &[Survived]), ("b", &[HarnessFailed]), ("c", &[Lost])]).await;
        assert_eq!(found.err().unwrap().kind(), crate::error::ErrorKind::Harness);
        let (found, _) = bisected(&[("a", &[Survived]), ("b", &[Survived])]).await;
        assert_eq!(first(found), "alike: survived");
        let (found, _) = bisected(&[("a", &[Survived]), ("b", &[])]).await;
        assert!(first(found).starts_with("b does not build"));
    }
}
