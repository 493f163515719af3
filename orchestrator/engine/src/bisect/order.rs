//! Decides which kernel is tested next. Pure, except for git, which knows the order of commits.

use super::verdict::Verdict;
use crate::error::EngineError;
use luqual_kernels::{Catalog, GitTree};
use luqual_model::Version;
use std::collections::BTreeMap;

/// Verdicts, by kernel.
pub(super) type Verdicts = BTreeMap<String, Verdict>;

/// The kernels of a bisection; one of them is the first bad one.
pub(super) enum Order {
    /// Kernels in order, from the good end to the bad end.
    Line(Vec<String>),
    /// The commits of a git tree, with both ends.
    Git { tree: GitTree, good: String, bad: String },
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Test this kernel; the number is how many can still be the first bad one.
    Look(String, usize),
    /// This is the first bad kernel.
    First(String),
    /// The first bad kernel is one of these; all but the last cannot be tested.
    Among(Vec<String>),
}

impl Order {
    /// The released kernels of the catalog between two, or those of them that are in `among`.
    pub(super) fn of_catalog(catalog: &Catalog, good: &str, bad: &str, among: &[String]) -> Result<Self, EngineError> {
        let unknown = |name: &str| {
            EngineError::usage(format!("the catalog has no kernel `{name}`"))
                .hint("`luqual kernels list` shows its kernels; give --tree to bisect commits")
        };
        if let Some(name) =
            among.iter().map(String::as_str).chain([good, bad]).find(|name| catalog.find(name).is_none())
        {
            return Err(unknown(name));
        }
        let is_wanted = |name: &str| among.is_empty() || among.iter().any(|wanted| wanted == name);
        let own = catalog.entries().iter().filter(|entry| entry.is_plain() && is_wanted(&entry.version));
        let mut line: Vec<&str> = own.map(|entry| entry.version.as_str()).collect();
        line.extend([good, bad].into_iter().filter(|end| !line.contains(end)).collect::<Vec<_>>());
        line.sort_by_key(|name| Version::of(name));
        let place = |end| line.iter().position(|name| *name == end).ok_or_else(|| unknown(end));
        let (from, to) = (place(good)?, place(bad)?);
        let mut line: Vec<String> = line[from.min(to)..=from.max(to)].iter().map(|name| (*name).to_owned()).collect();
        if from > to {
            line.reverse();
        }
        Ok(Self::Line(line))
    }

    /// The commits between two.
    pub(super) fn of_tree(tree: GitTree, good: &str, bad: &str) -> Result<Self, EngineError> {
        let (good, bad) = (tree.commit(good)?.id, tree.commit(bad)?.id);
        if good == bad || !tree.is_before(&good, &bad)? {
            return Err(EngineError::usage("the good commit is not an ancestor of the bad one")
                .hint("`git merge-base` finds a commit that is an ancestor of both; try that one as --good"));
        }
        Ok(Self::Git { tree, good, bad })
    }

    /// The good end and the bad end, as they are named in [`Verdicts`].
    pub(super) fn ends(&self) -> (&str, &str) {
        match self {
            Self::Line(line) => (line.first().map_or("", String::as_str), line.last().map_or("", String::as_str)),
            Self::Git { good, bad, .. } => (good, bad),
        }
    }

    /// The name by which luqual finds the kernel.
    pub(super) fn spec(&self, name: &str) -> String {
        match self {
            Self::Line(_) => name.to_owned(),
            Self::Git { tree, .. } => tree.spec(name),
        }
    }

    /// The name of the kernel for the user.
    pub(super) fn told(&self, name: &str) -> String {
        match self {
            Self::Line(_) => name.to_owned(),
            Self::Git { tree, .. } => {
                let subject = tree.commit(name).map(|commit| commit.subject).unwrap_or_default();
                let subject = luqual_model::plain::one_line(&subject);
                format!("{} {subject}", name.get(..12).unwrap_or(name))
            }
        }
    }

    pub(super) fn next(&self, known: &Verdicts) -> Result<Next, EngineError> {
        match self {
            Self::Line(line) => Ok(next_of_line(line, known)),
            Self::Git { tree, bad, .. } => {
                let of = |verdict: Verdict| known.iter().filter(move |(_, it)| **it == verdict).map(|(name, _)| name);
                let good: Vec<String> = of(Verdict::Good).cloned().collect();
                // Of the bad commits, the one with the fewest commits before it.
                let mut left = tree.halving(&good, bad)?;
                for found in of(Verdict::Bad) {
                    let before = tree.halving(&good, found)?;
                    if before.len() < left.len() {
                        left = before;
                    }
                }
                Ok(next_of_halves(left, known))
            }
        }
    }
}

/// The next step for kernels in order.
fn next_of_line(line: &[String], known: &Verdicts) -> Next {
    let is = |place: usize, verdict| known.get(&line[place]) == Some(&verdict);
    let last = line.len() - 1;
    let bad = (0..=last).find(|place| is(*place, Verdict::Bad)).unwrap_or(last);
    let good = (0..bad).rev().find(|place| is(*place, Verdict::Good)).unwrap_or(0);
    let middle = (good + bad) / 2;
    let open = (good + 1..bad).filter(|place| !known.contains_key(&line[*place]));
    match open.min_by_key(|place| place.abs_diff(middle)) {
        Some(place) => Next::Look(line[place].clone(), bad - good),
        None if bad - good > 1 => Next::Among(line[good + 1..=bad].to_vec()),
        None => Next::First(line[bad].clone()),
    }
}

/// The next step for commits; the last one is bad, and the first one halves the others best.
fn next_of_halves(left: Vec<String>, known: &Verdicts) -> Next {
    let Some((bad, others)) = left.split_last() else { return Next::Among(Vec::new()) };
    match others.iter().find(|commit| !known.contains_key(*commit)) {
        Some(commit) => Next::Look(commit.clone(), left.len()),
        None if others.is_empty() => Next::First(bad.clone()),
        None => Next::Among(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Bad, Good, Skip};

    fn line() -> Vec<String> {
        ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec()
    }

    fn next(known: &[(&str, Verdict)]) -> Next {
        let known = known.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict)).collect();
        next_of_line(&line(), &known)
    }

    #[test]
    fn every_first_bad_one_is_found_and_by_no_more_looks_than_it_takes() {
        for first in 1..6 {
            let mut known = Verdicts::from([("a".to_owned(), Good), ("f".to_owned(), Bad)]);
            let mut looks = 0;
            let found = loop {
                match next_of_line(&line(), &known) {
                    Next::Look(name, _) => {
                        let place = line().iter().position(|it| *it == name).unwrap();
                        known.insert(name, if place >= first { Bad } else { Good });
                        looks += 1;
                    }
                    other => break other,
                }
            };
            assert_eq!(found, Next::First(line()[first].clone()));
            assert!(looks <= 3, "{looks}");
        }
    }

    #[test]
    fn what_cannot_be_looked_at_is_gone_around() {
        let ends = [("a", Good), ("f", Bad)];
        let with = |more: &[(&'static str, Verdict)]| next(&[&ends[..], more].concat());
        assert_eq!(with(&[]), Next::Look("c".into(), 5));
        assert_eq!(with(&[("c", Skip)]), Next::Look("b".into(), 5));
        assert_eq!(with(&[("c", Skip), ("b", Good), ("d", Bad)]), Next::Among(vec!["c".into(), "d".into()]));
        assert_eq!(with(&[("c", Skip), ("b", Good), ("d", Good), ("e", Bad)]), Next::First("e".into()));
        let all_skipped = [("b", Skip), ("c", Skip), ("d", Skip), ("e", Skip)];
        assert_eq!(with(&all_skipped), Next::Among(line()[1..].to_vec()));
    }

    #[test]
    fn commits_are_looked_at_as_git_orders_them() {
        let of = |left: &[&str], known: &[(&str, Verdict)]| {
            let known = known.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict)).collect();
            next_of_halves(left.iter().map(|it| (*it).to_owned()).collect(), &known)
        };
        assert_eq!(of(&["m", "n", "z"], &[]), Next::Look("m".into(), 3));
        assert_eq!(of(&["m", "n", "z"], &[("m", Skip)]), Next::Look("n".into(), 3));
        assert_eq!(of(&["m", "z"], &[("m", Skip)]), Next::Among(vec!["m".into(), "z".into()]));
        assert_eq!(of(&["z"], &[]), Next::First("z".into()));
    }

    #[test]
    fn a_catalogs_line_has_what_was_released_between_two_either_way() {
        let catalog = Catalog::load(None).unwrap();
        let line = |good: &str, bad: &str, among: &[&str]| {
            let among: Vec<String> = among.iter().map(|it| (*it).to_owned()).collect();
            match Order::of_catalog(&catalog, good, bad, &among) {
                Ok(Order::Line(line)) => line.join(" "),
                Ok(Order::Git { .. }) => String::new(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(line("7.1.13", "7.3.4", &[]), "7.1.13 7.2.6 7.2.12 7.3.4");
        assert_eq!(line("7.3.4", "7.1.13", &["7.2.12"]), "7.3.4 7.2.12 7.1.13");
        assert_eq!(line("7.2.12", "7.3.4-debug", &["7.3.4"]), "7.2.12 7.3.4 7.3.4-debug");
        assert_eq!(line("7.2.12", "8.0.0", &[]), "the catalog has no kernel `8.0.0`");
    }
}
