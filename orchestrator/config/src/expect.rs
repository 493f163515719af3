//! What cells are known to do: `[[expect]]` in `matrix.toml`.

use crate::document::{Table, Text};
use crate::filter::{KernelPattern, Named, Subject};
use crate::names::{KnownNames, is_path, unknown};
use crate::pairs::Matrix;
use luqual_model::{Expectation, Outcome, Phase, RANGE_SYNTAX, Side, matches};

/// Rules for cells. The last rule that matches a cell counts, so a later rule refines an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    source: KernelPattern,
    target: KernelPattern,
    profile: String,
    workload: String,
    expectation: Expectation,
}

impl Rule {
    /// Whether the rule may match a cell of the matrix. The profile that a workload declares is not known
    /// here.
    fn takes_of(&self, matrix: &Matrix, known: &KnownNames<'_>) -> bool {
        let selected = |name: &&&str| matrix.workloads.iter().any(|glob| matches(glob, name));
        matrix.has_pair(|source, target| may_take(&self.source, source) && may_take(&self.target, target))
            && known.workloads.iter().filter(selected).any(|name| matches(&self.workload, name))
            && (matrix.profiles.is_empty() || matrix.profiles.iter().any(|name| matches(&self.profile, name)))
    }

    fn takes(&self, subject: &Subject<'_>) -> bool {
        self.source.takes(subject.source)
            && self.target.takes(subject.target)
            && matches(&self.profile, subject.profile)
            && matches(&self.workload, subject.workload)
    }
}

impl Expectations {
    /// These, and behind them others, which count before these.
    #[must_use]
    pub fn refined_by(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Adds a rule, which counts before all others. A pattern that cannot be parsed matches nothing.
    pub(crate) fn add(&mut self, source: &str, target: &str, profile: &str, workload: &str, expectation: Expectation) {
        let (Ok(source), Ok(target)) = (source.parse(), target.parse()) else { return };
        let (profile, workload) = (profile.to_owned(), workload.to_owned());
        self.0.push(Rule { source, target, profile, workload, expectation });
    }

    /// Every expectation of the file, in its order.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &Expectation> {
        self.0.iter().map(|rule| &rule.expectation)
    }

    /// The expectation of a cell; `None` if no rule matches.
    pub fn of(&self, subject: &Subject<'_>) -> Option<&Expectation> {
        self.0.iter().rev().find(|rule| rule.takes(subject)).map(|rule| &rule.expectation)
    }
}

/// Reads the rules of a file. `matrices` are its matrices, if they could be read.
pub(crate) fn read(table: &Table<'_>, matrices: Option<&Vec<Matrix>>, known: &KnownNames<'_>) -> Expectations {
    Expectations(table.tables("expect", |table| {
        let before = table.mistakes();
        let rule = rule(table, matrices, known)?;
        let takes_something = |matrices: &Vec<Matrix>| matrices.iter().any(|matrix| rule.takes_of(matrix, known));
        if table.mistakes() == before && !matrices.is_none_or(takes_something) {
            table.wrong("this rule matches no cell of any matrix", None);
        }
        Some(rule)
    }))
}

fn rule(table: &Table<'_>, matrices: Option<&Vec<Matrix>>, known: &KnownNames<'_>) -> Option<Rule> {
    let before = table.mistakes();
    let source = kernel(table.needed_text("source"), matrices);
    let target = kernel(table.needed_text("target"), matrices);
    let profile = name(table.text("profile"), "profile", known.profiles);
    let workload = name(table.text("workload"), "workload", known.workloads);
    let outcome = table.needed_text("outcome").and_then(|text| {
        // An inconclusive outcome cannot be expected of a kernel.
        let can_be = |outcome: &Outcome| outcome.is_conclusive();
        let words: Vec<&str> = Outcome::ALL.into_iter().filter(can_be).map(Outcome::word).collect();
        let outcome = Outcome::from_word(text.text);
        match outcome {
            None => unknown(&text, "outcome", &words, ""),
            Some(outcome) if !outcome.is_conclusive() => {
                let hint = format!("expect one of {}", words.join(", "));
                text.wrong(format!("`{}` says nothing about a kernel", text.text), Some(hint));
            }
            Some(_) => {}
        }
        outcome
    });
    let tainted = tainted(table);
    let failed = failed(table.renamed_texts("failed", "broken"), outcome);
    let unstable = unstable(table.renamed_texts("unstable", "unsteady"), &failed);
    let known = known_end(table, outcome);
    let reason = table.needed_text("reason");
    if let Some(reason) = reason.as_ref().filter(|reason| reason.text.trim().is_empty()) {
        reason.wrong("the reason is empty", Some("say why the cell is known to end so".to_owned()));
    }
    let link = table.text("link").map(|link| link.text.to_owned());
    let reason = reason?.text.to_owned();
    let expectation = Expectation { outcome: outcome?, tainted, failed, unstable, reason, link, ..known };
    if table.mistakes() == before {
        named(table, &expectation);
    }
    Some(Rule { source: source?, target: target?, profile, workload, expectation })
}

/// An expectation that takes any end with its outcome hides the next fault behind a known one.
fn named(table: &Table<'_>, expectation: &Expectation) {
    let unnamed = expectation.unnamed();
    if unnamed.is_empty() {
        return;
    }
    let lines: Vec<&str> = unnamed
        .iter()
        .map(|key| match *key {
            "call" => "call = \"the refused call\"",
            "errno" => "errno = \"its errno\"",
            "failed" => "failed = [\"a probe that fails\"]",
            "signature" => "signature = \"the title of the cell\"",
            "side" => "side = \"source or target\"",
            _ => "phase = \"the phase in which it ends\"",
        })
        .collect();
    let hint = format!(
        "add {}, as reports have {}; or delete the rule: `luqual expect update RUN` writes it whole",
        lines.join(" and "),
        if lines.len() == 1 { "it" } else { "them" }
    );
    let outcome = expectation.outcome;
    table.wrong(format!("this rule takes any cell that is `{outcome}`, whatever the reason"), Some(hint));
}

/// Whether a pattern is empty, or takes everything.
fn names_nothing(glob: &str) -> bool {
    glob.trim_matches(['*', '?', ' ']).is_empty()
}

/// What taints the cell, as globs.
fn tainted(table: &Table<'_>) -> Vec<String> {
    let example = "tainted = [\"target: WARNING: at kho_restore_page*\", \"target: taint 512 (W)\"]";
    if table.has_flag("tainted") {
        let hint = format!("name what taints the cell, as reports have it: {example}");
        table.wrong("`tainted` takes any warning and any taint", Some(hint));
        return Vec::new();
    }
    let globs = table.texts("tainted");
    for glob in globs.iter().filter(|glob| names_nothing(glob.text)) {
        let hint = format!("write a line as reports have it: {example}");
        glob.wrong(format!("`{}` names no line", glob.text), Some(hint));
    }
    globs.into_iter().map(|glob| glob.text.to_owned()).collect()
}

/// The keys that say which refusal or which crash is known.
fn known_end(table: &Table<'_>, outcome: Option<Outcome>) -> Expectation {
    let text = |key, of: &[Outcome]| {
        let text: Text<'_> = table.text(key)?;
        if names_nothing(text.text) {
            let hint = "write it as reports have it; * and ? are wildcards".to_owned();
            text.wrong(format!("`{}` names no {key}", text.text), Some(hint));
        } else if let Some(outcome) = outcome.filter(|outcome| !of.contains(outcome)) {
            let words: Vec<&str> = of.iter().map(|outcome| outcome.word()).collect();
            let hint = format!("`{key}` is for {}", words.join(", "));
            text.wrong(format!("`{key}` says nothing of a cell that is `{outcome}`"), Some(hint));
        }
        Some(text)
    };
    let refused = [Outcome::Refused, Outcome::Incompatible, Outcome::Lost];
    let by_line = [Outcome::Crashed, Outcome::Incompatible, Outcome::Lost];
    let side = text("side", &[Outcome::Crashed, Outcome::Refused, Outcome::Incompatible, Outcome::Lost]);
    let phase = text("phase", &[Outcome::Crashed, Outcome::Refused, Outcome::Incompatible, Outcome::Lost]);
    let owned = |text: Option<Text<'_>>| text.map(|text| text.text.to_owned());
    Expectation {
        call: owned(text("call", &refused)),
        errno: owned(text("errno", &refused)),
        signature: owned(text("signature", &by_line)),
        side: side.and_then(|text| {
            let side = Side::from_word(text.text);
            if side.is_none() {
                unknown(&text, "side", &["source", "target"], "");
            }
            side
        }),
        phase: phase.and_then(|text| {
            let phase = Phase::from_word(text.text);
            if phase.is_none() {
                unknown(&text, "phase", &Phase::ALL.map(Phase::word), "");
            }
            phase
        }),
        ..Expectation::of(Outcome::Survived)
    }
}

/// The probes that fail. Their names are only known once a kernel has run.
fn failed(globs: Vec<Text<'_>>, outcome: Option<Outcome>) -> Vec<String> {
    if let (Some(first), Some(outcome)) = (globs.first(), outcome.filter(|outcome| *outcome != Outcome::Lost)) {
        let hint = "`failed` names the probes that fail in a cell that is `lost`".to_owned();
        first.wrong(format!("no probe decides whether a cell is `{outcome}`"), Some(hint));
    }
    probes(globs)
}

/// The probes that pass in one run and fail in another. If `failed` is empty, any probe may fail.
fn unstable(globs: Vec<Text<'_>>, failed: &[String]) -> Vec<String> {
    if let (Some(first), true) = (globs.first(), failed.is_empty()) {
        let hint = "`failed` names the probes that always fail; without it, any probe may fail".to_owned();
        first.wrong("`unstable` has no effect without `failed`", Some(hint));
    }
    probes(globs)
}

fn probes(globs: Vec<Text<'_>>) -> Vec<String> {
    for glob in globs.iter().filter(|glob| names_nothing(glob.text)) {
        let hint = "write the name of a probe as reports have it; * and ? are wildcards, as in \"D4 *\"".to_owned();
        glob.wrong(format!("`{}` names no probe", glob.text), Some(hint));
    }
    globs.into_iter().map(|glob| glob.text.to_owned()).collect()
}

fn kernel(text: Option<Text<'_>>, matrices: Option<&Vec<Matrix>>) -> Option<KernelPattern> {
    let text = text?;
    match text.text.parse::<KernelPattern>() {
        Ok(pattern) => {
            let taken = |matrix: &Matrix| matrix.kernels.iter().any(|name| may_take(&pattern, name));
            if matrices.is_some_and(|matrices| !matrices.iter().any(taken)) {
                text.wrong(format!("`{}` matches no kernel of any matrix", text.text), None);
            }
            Some(pattern)
        }
        Err(why) => {
            text.wrong(why, Some(format!("{RANGE_SYNTAX}, or a path with a `/`")));
            None
        }
    }
}

/// The release of a path is not known before the image is read, so a path may match any pattern.
fn may_take(pattern: &KernelPattern, name: &str) -> bool {
    is_path(name) || pattern.takes(Named { name, release: name })
}

fn name(text: Option<Text<'_>>, what: &str, known: &[&str]) -> String {
    let Some(text) = text else { return "*".to_owned() };
    if !known.iter().any(|name| matches(text.text, name)) {
        unknown(&text, what, known, "");
    }
    text.text.to_owned()
}
