//! `luqual bisect`: the first kernel of several at which a cell ends otherwise.

mod order;

use super::execute::{Ended, Execution, There, execute};
use super::report::read;
use super::selection::{Chosen, Pairs, Selection};
use crate::error::{CliError, Exit};
use crate::output;
use crate::progress::Shown;
use clap::Args;
use luqual_kernels::{GitTree, Store, digest};
use luqual_model::{CellRecord, Outcome, Phase};
use luqual_reports::end;
use order::{Known, Next, Order};
use std::fs;
use std::path::{Path, PathBuf};

/// Among which kernels, and which cell.
#[derive(Args, Debug)]
#[command(after_help = "\
A kernel is good when its cell ends as that of --good does: with the same outcome, tainted or not. Otherwise it is bad. Both ends are
looked at first. A kernel that does not build is skipped, and so is one that does not get through its own boot, unless that is how the
bad one ends. Kernels are built as they are needed, and kept; of a tree each is built on top of the one before.

Examples:
  luqual bisect --source 7.3.4 --good 6.18.15 --bad 7.3.4          (into which of the catalog can 7.3.4 be updated?)
  luqual bisect --good 7.2.12 --bad 7.3.4 --workload memfd.seals   (each into itself)
  luqual bisect --tree ~/linux --good v7.3 --bad HEAD --source 7.2.12 --workload 'memfd.basic'

Each kernel has a run of its own in the folder. The same command goes on with what is there.

Exit codes: 0 it was found; 1 it was not: both ends end alike, or what is left cannot be looked at; 2 a mistake in what was asked for;
3 the tool or its host failed; 130 ended by the user.")]
pub(crate) struct Bisect {
    /// The kernel at which it is as it was: of the catalog, or a commit of --tree
    #[arg(long, value_name = "KERNEL")]
    good: String,
    /// The kernel at which it is not any more
    #[arg(long, value_name = "KERNEL")]
    bad: String,
    /// A git tree of kernels on this machine, whose commits are looked through; it is left as it is
    #[arg(long, value_name = "FOLDER")]
    tree: Option<PathBuf>,
    /// Only these of the catalog, beside the two ends; can be repeated [default: all that were released]
    #[arg(long, value_name = "KERNEL", conflicts_with = "tree")]
    among: Vec<String>,
    /// The source of each cell, whose target is looked for [default: each kernel is updated into itself]
    #[arg(long, value_name = "KERNEL")]
    source: Option<String>,
    /// The target of each cell, whose source is looked for
    #[arg(long, value_name = "KERNEL", conflicts_with = "source")]
    target: Option<String>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    execution: Execution,
}

/// What is thought of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad,
    /// It says nothing.
    Skip,
}

/// What is seen of a kernel.
enum Seen {
    Cell(Box<CellRecord>),
    /// There is no such kernel, since it does not build.
    NotBuilt(String),
}

/// Runs it.
pub(crate) async fn run(command: &Bisect) -> Result<Exit, CliError> {
    let store = command.execution.kernels.store()?;
    let order = match &command.tree {
        Some(tree) => Order::of_tree(GitTree::open(tree)?, &command.good, &command.bad)?,
        None => Order::of_catalog(store.catalog(), &command.good, &command.bad, &command.among)?,
    };
    let (good, bad) = order.ends();
    let looks = Looks { command, store: &store, order: &order, folder: command.folder(good, bad) };
    let Some(first) = looks.end_of(good).await? else { return Ok(Exit::Interrupted) };
    let Some(last) = looks.end_of(bad).await? else { return Ok(Exit::Interrupted) };
    if is_alike(&first, &last) {
        output::line(format_args!("{good} and {bad} end alike: {}", end(&first)))?;
        return Ok(Exit::NotAsExpected);
    }
    let mut known = Known::from([(good.to_owned(), Verdict::Good), (bad.to_owned(), Verdict::Bad)]);
    loop {
        let name = match order.next(&known)? {
            Next::Look(name, left) => {
                eprintln!("{left} kernels may be the first: {} more to look at", left.ilog2());
                name
            }
            Next::First(name) => {
                let Some(Seen::Cell(cell)) = looks.at(&name).await? else { return Ok(Exit::Interrupted) };
                output::line(format_args!("first: {}: {}", order.told(&name), end(&cell)))?;
                let place = looks.place(&name);
                output::line(format_args!("  before it: {}", end(&first)))?;
                let again = luqual_reports::command(&["luqual", "repro", &place.to_string_lossy(), &cell.id.0]);
                output::line(format_args!("  again: {again}"))?;
                return Ok(Exit::Ok);
            }
            Next::Among(names) => {
                output::line("first: one of these, of which all but the last cannot be looked at")?;
                names.iter().try_for_each(|name| output::line(format_args!("  {}", order.told(name))))?;
                return Ok(Exit::NotAsExpected);
            }
        };
        let Some(seen) = looks.at(&name).await? else { return Ok(Exit::Interrupted) };
        let (verdict, why) = match &seen {
            Seen::NotBuilt(why) => (Verdict::Skip, format!("does not build: {why}")),
            Seen::Cell(cell) => (verdict(cell, &first, &last), end(cell)),
        };
        if verdict == Verdict::Skip && matches!(&seen, Seen::Cell(cell) if cell.outcome == Outcome::HarnessFailed) {
            return Err(CliError::harness(format!("{}: {why}", order.told(&name)))
                .hint("mend that, and give the same command: it goes on"));
        }
        output::line(format_args!("{}: {}: {why}", word(verdict), order.told(&name)))?;
        known.insert(name, verdict);
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Bad => "bad",
        Verdict::Skip => "skipped",
    }
}

/// Whether two cells end alike, as far as a bisection goes: by which probes or line is told, and does not count.
fn is_alike(one: &CellRecord, other: &CellRecord) -> bool {
    (one.outcome, one.tainted.is_empty()) == (other.outcome, other.tainted.is_empty())
}

fn verdict(cell: &CellRecord, good: &CellRecord, bad: &CellRecord) -> Verdict {
    let boots_not = cell.outcome == Outcome::Crashed && matches!(cell.phase, Phase::Boot | Phase::Handshake);
    if is_alike(cell, good) {
        Verdict::Good
    } else if !cell.outcome.says_something() || boots_not && !(is_alike(cell, bad) && bad.phase == cell.phase) {
        Verdict::Skip
    } else {
        Verdict::Bad
    }
}

impl Bisect {
    /// One for each question, so that the same one finds what was seen before.
    fn folder(&self, good: &str, bad: &str) -> PathBuf {
        let asked = format!("{good} {bad} {:?} {:?} {:?} {:?}", self.tree, self.source, self.target, self.selection);
        let id = digest::of_bytes(asked.as_bytes());
        self.execution.report_dir.clone().unwrap_or_else(|| PathBuf::from(format!("luqual-runs/bisect-{}", &id[..8])))
    }
}

/// What is looked at, and where that is kept.
struct Looks<'a> {
    command: &'a Bisect,
    store: &'a Store,
    order: &'a Order,
    folder: PathBuf,
}

/// Why there is no kernel, in a folder without a run.
const NOT_BUILT: &str = "not-built.txt";

impl Looks<'_> {
    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name.get(..12).filter(|_| self.command.tree.is_some()).unwrap_or(name))
    }

    /// The cell of an end, which has to say something; `None` when the user ended it.
    async fn end_of(&self, name: &str) -> Result<Option<CellRecord>, CliError> {
        let cell = match self.at(name).await? {
            None => return Ok(None),
            Some(Seen::Cell(cell)) => cell,
            Some(Seen::NotBuilt(why)) => {
                return Err(CliError::usage(format!("{} does not build: {why}", self.order.told(name)))
                    .hint("name another end"));
            }
        };
        output::line(format_args!("end: {}: {}", self.order.told(name), end(&cell)))?;
        match cell.outcome {
            Outcome::HarnessFailed => Err(CliError::harness(cell.title.clone())),
            Outcome::Skipped => Err(CliError::usage(format!("{} says nothing: {}", self.order.told(name), cell.title))
                .hint("name another end, or another workload")),
            _ => Ok(Some(*cell)),
        }
    }

    /// What is seen of a kernel, now or before; `None` when the user ended it.
    async fn at(&self, name: &str) -> Result<Option<Seen>, CliError> {
        let (place, spec) = (self.place(name), self.order.spec(name));
        if let Ok(why) = fs::read_to_string(place.join(NOT_BUILT)) {
            return Ok(Some(Seen::NotBuilt(why)));
        }
        let progress = Shown::new();
        let built = tokio::select! {
            built = self.store.resolve(&spec, &progress) => built,
            _ = tokio::signal::ctrl_c() => return Ok(None),
        };
        match built {
            Ok(_) => {}
            Err(error) if error.is_of_the_source() => {
                let why = error.to_string().lines().take(2).map(str::trim).collect::<Vec<_>>().join(" ");
                fs::create_dir_all(&place).map_err(CliError::file(place.display()))?;
                fs::write(place.join(NOT_BUILT), &why).map_err(CliError::file(place.display()))?;
                return Ok(Some(Seen::NotBuilt(why)));
            }
            Err(error) => return Err(error.into()),
        }
        let chosen = self.chosen(&spec)?;
        forget_what_says_nothing(&place)?;
        let mut options = self.command.execution.clone();
        options.report_dir = Some(place.clone());
        let record = match execute(self.store, &chosen, &options, 1, There::GoesOn).await? {
            Ended::Run(record, _) if !record.run.interrupted => record,
            Ended::Run(..) | Ended::Interrupted => return Ok(None),
        };
        let cell = record.cell_of(0).map_err(CliError::file(place.display()))?;
        Ok(Some(Seen::Cell(Box::new(cell.ok_or_else(|| CliError::harness("the cell did not end"))?))))
    }

    /// The one cell of a kernel.
    fn chosen(&self, spec: &str) -> Result<Chosen, CliError> {
        let Bisect { source, target, selection, .. } = self.command;
        let pair = Pairs::One(source.as_deref().unwrap_or(spec), target.as_deref().unwrap_or(spec));
        let chosen = selection.choose(self.store, pair, |workload| workload.name == WORKLOAD)?;
        match chosen.cells.len() {
            1 => Ok(chosen),
            count => Err(CliError::usage(format!("a bisection follows one cell, and these are {count}"))
                .hint("name one workload, and one profile if it has several")),
        }
    }
}

/// Where no other is named.
const WORKLOAD: &str = "memfd.basic";

/// Removes a run of before that says nothing, so that it is run again.
fn forget_what_says_nothing(place: &Path) -> Result<(), CliError> {
    let Ok(record) = read(place) else { return Ok(()) };
    let is_broken = record.briefs().any(|(_, brief)| brief.is_some_and(|it| it.outcome == Outcome::HarnessFailed));
    drop(record);
    if is_broken { fs::remove_dir_all(place).map_err(CliError::file(place.display())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scale::ended;

    fn cell(outcome: Outcome, phase: Phase) -> CellRecord {
        CellRecord { phase, ..ended(outcome) }
    }

    #[test]
    fn what_is_not_as_the_good_one_is_bad_unless_it_says_nothing() {
        let good = cell(Outcome::Survived, Phase::Verify);
        let bad = cell(Outcome::Lost, Phase::Verify);
        let of = |outcome, phase| verdict(&cell(outcome, phase), &good, &bad);
        assert_eq!(of(Outcome::Survived, Phase::Verify), Verdict::Good);
        assert_eq!(of(Outcome::Lost, Phase::Retrieve), Verdict::Bad);
        assert_eq!(of(Outcome::Incompatible, Phase::Retrieve), Verdict::Bad);
        assert_eq!(of(Outcome::Crashed, Phase::Kexec), Verdict::Bad);
        for (outcome, phase) in [
            (Outcome::Skipped, Phase::Boot),
            (Outcome::HarnessFailed, Phase::Verify),
            (Outcome::Crashed, Phase::Boot),
            (Outcome::Crashed, Phase::Handshake),
        ] {
            assert_eq!(of(outcome, phase), Verdict::Skip, "{outcome} {phase}");
        }
        // What does not boot is what is looked for.
        let unbootable = cell(Outcome::Crashed, Phase::Boot);
        assert_eq!(verdict(&cell(Outcome::Crashed, Phase::Boot), &good, &unbootable), Verdict::Bad);
        let tainted = CellRecord { tainted: vec!["WARNING".into()], ..good.clone() };
        assert_eq!((verdict(&tainted, &good, &bad), is_alike(&tainted, &good)), (Verdict::Bad, false));
    }
}
