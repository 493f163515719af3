//! What cells are known to do: `[[expect]]` in `matrix.toml`.

use crate::document::{Table, Text};
use crate::filter::{KernelPattern, Named, Subject};
use crate::matrix::{Known, Matrix, is_path, unknown};
use luqual_model::{Expectation, Outcome, RANGE_SYNTAX, matches};

/// Rules, of which the last that takes a cell counts: a later one refines an earlier one.
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
    /// Whether a cell of the matrix may be meant. On which machines its workloads run by themselves is not known here.
    fn takes_of(&self, matrix: &Matrix, known: &Known<'_>) -> bool {
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
    /// One more, which counts before all others. Patterns that cannot be read take nothing.
    pub(crate) fn add(&mut self, source: &str, target: &str, profile: &str, workload: &str, expectation: Expectation) {
        let (Ok(source), Ok(target)) = (source.parse(), target.parse()) else { return };
        let (profile, workload) = (profile.to_owned(), workload.to_owned());
        self.0.push(Rule { source, target, profile, workload, expectation });
    }

    /// What the cell is known to do, if anything.
    pub fn of(&self, subject: &Subject<'_>) -> Option<&Expectation> {
        self.0.iter().rev().find(|rule| rule.takes(subject)).map(|rule| &rule.expectation)
    }
}

/// Reads the rules of a file with these matrices, if they are known.
pub(crate) fn read(table: &Table<'_>, matrices: Option<&Vec<Matrix>>, known: &Known<'_>) -> Expectations {
    Expectations(table.tables("expect", |table| {
        let before = table.mistakes();
        let rule = rule(table, matrices, known)?;
        let takes_something = |matrices: &Vec<Matrix>| matrices.iter().any(|matrix| rule.takes_of(matrix, known));
        if table.mistakes() == before && !matrices.is_none_or(takes_something) {
            table.wrong("this takes no cell of any matrix", None);
        }
        Some(rule)
    }))
}

fn rule(table: &Table<'_>, matrices: Option<&Vec<Matrix>>, known: &Known<'_>) -> Option<Rule> {
    let source = kernel(table.needed_text("source"), matrices);
    let target = kernel(table.needed_text("target"), matrices);
    let profile = name(table.text("profile"), "profile", known.profiles);
    let workload = name(table.text("workload"), "workload", known.workloads);
    let outcome = table.needed_text("outcome").and_then(|text| {
        // What was not run and what says nothing of a kernel cannot be known of one.
        let can_be = |outcome: &Outcome| outcome.says_something();
        let words: Vec<&str> = Outcome::ALL.into_iter().filter(can_be).map(Outcome::word).collect();
        let outcome = Outcome::from_word(text.text);
        match outcome {
            None => unknown(&text, "outcome", &words, ""),
            Some(outcome) if !outcome.says_something() => {
                text.wrong(format!("`{}` says nothing of a kernel", text.text), None);
            }
            Some(_) => {}
        }
        outcome
    });
    let tainted = table.flag("tainted");
    let broken = broken(table.texts("broken"), outcome);
    let unsteady = unsteady(table.texts("unsteady"), &broken);
    let reason = table.needed_text("reason");
    if let Some(reason) = reason.as_ref().filter(|reason| reason.text.trim().is_empty()) {
        reason.wrong("an expectation without a reason is a guess", None);
    }
    let link = table.text("link").map(|link| link.text.to_owned());
    let expectation =
        Expectation { outcome: outcome?, tainted, broken, unsteady, reason: reason?.text.to_owned(), link };
    Some(Rule { source: source?, target: target?, profile, workload, expectation })
}

/// The probes that are known not to hold. What they are called is only known when a kernel was run.
fn broken(globs: Vec<Text<'_>>, outcome: Option<Outcome>) -> Vec<String> {
    if let (Some(first), Some(outcome)) = (globs.first(), outcome.filter(|outcome| *outcome != Outcome::Lost)) {
        let hint = "`broken` names the probes that do not hold in a cell that is `lost`".to_owned();
        first.wrong(format!("no probe decides that a cell is `{outcome}`"), Some(hint));
    }
    probes(globs)
}

/// The probes that are known to hold in one run and not in another. Where none is named as broken, any may be.
fn unsteady(globs: Vec<Text<'_>>, broken: &[String]) -> Vec<String> {
    if let (Some(first), true) = (globs.first(), broken.is_empty()) {
        let hint = "`broken` names those that never hold; without it, any may not".to_owned();
        first.wrong("this says nothing without `broken`", Some(hint));
    }
    probes(globs)
}

fn probes(globs: Vec<Text<'_>>) -> Vec<String> {
    for glob in globs.iter().filter(|glob| glob.text.trim().is_empty()) {
        let hint = "probes are named as reports have them, with * and ? as in \"D4 *\"".to_owned();
        glob.wrong("this takes no probe", Some(hint));
    }
    globs.into_iter().map(|glob| glob.text.to_owned()).collect()
}

fn kernel(text: Option<Text<'_>>, matrices: Option<&Vec<Matrix>>) -> Option<KernelPattern> {
    let text = text?;
    match text.text.parse::<KernelPattern>() {
        Ok(pattern) => {
            let taken = |matrix: &Matrix| matrix.kernels.iter().any(|name| may_take(&pattern, name));
            if matrices.is_some_and(|matrices| !matrices.iter().any(taken)) {
                text.wrong(format!("`{}` takes no kernel of any matrix", text.text), None);
            }
            Some(pattern)
        }
        Err(why) => {
            text.wrong(why, Some(format!("{RANGE_SYNTAX}, or a path with a `/`")));
            None
        }
    }
}

/// What release a path has is not known before it is read.
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

#[cfg(test)]
mod tests {
    use crate::filter::{Named, Subject};
    use crate::matrix::{Known, read};
    use luqual_model::Outcome;

    const KNOWN: Known<'_> =
        Known { kernels: &["7.0.13", "7.2.12", "7.3.4"], workloads: &["memfd.basic"], profiles: &["q35-intel"] };
    const MATRIX: &str =
        "[matrix.a]\nkernels = [\"7.0.13\", \"7.2.12\", \"7.3.4\"]\npairs = \"all\"\nworkloads = [\"*\"]\n";

    fn subject<'a>(source: &'a str, target: &'a str) -> Subject<'a> {
        Subject {
            source: Named { name: source, release: source },
            target: Named { name: target, release: target },
            profile: "q35-intel",
            workload: "memfd.basic",
        }
    }

    #[test]
    fn the_last_that_takes_a_cell_counts() {
        let text = format!(
            "{MATRIX}[[expect]]\nsource = \"<7.1\"\ntarget = \"*\"\noutcome = \"incompatible\"\nreason = \"kho-v1\"\n\
             [[expect]]\nsource = \"7.0\"\ntarget = \"7.0\"\noutcome = \"survived\"\ntainted = true\nreason = \"x\"\n\
             link = \"https://example.org\"\n"
        );
        let expectations = read("m.toml", &text, &KNOWN).unwrap().expectations;
        let of = |source, target| expectations.of(&subject(source, target));
        assert_eq!(of("7.0.13", "7.3.4").unwrap().outcome, Outcome::Incompatible);
        let own = of("7.0.13", "7.0.13").unwrap();
        assert_eq!(
            (own.outcome, own.tainted, own.link.as_deref()),
            (Outcome::Survived, true, Some("https://example.org"))
        );
        assert_eq!(of("7.2.12", "7.3.4"), None);
    }

    #[test]
    fn mistakes_name_their_places() {
        let text = format!(
            "{MATRIX}[[expect]]\nsource = \"7.9\"\ntarget = \"new\"\nworkload = \"vfio.*\"\noutcome = \"skipped\"\n\
             reason = \" \"\n[[expect]]\nsource = \"*\"\noutcome = \"survive\"\n\
             [[expect]]\nsource = \"*\"\ntarget = \"*\"\noutcome = \"gone\"\nreason = 7\n"
        );
        let told = read("m.toml", &text, &KNOWN).unwrap_err().to_string();
        for line in [
            "m.toml:6:10: `7.9` takes no kernel of any matrix",
            "m.toml:7:10: `new` is no range of versions",
            "m.toml:8:12: unknown workload `vfio.*`",
            "m.toml:9:11: `skipped` says nothing of a kernel",
            "m.toml:10:10: an expectation without a reason",
            "`target` is missing",
            "`reason` is missing",
            "m.toml:17:11: unknown outcome `gone`\n  hint: known: survived, lost, incompatible, refused, crashed\n",
            "m.toml:13:11: unknown outcome `survive`\n  hint: is `survived` meant?",
        ] {
            assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
        }
        let rule = "[[expect]]\nsource = \"7.0\"\ntarget = \"7.3\"\noutcome = \"lost\"\nreason = \"x\"\n";
        // Each by itself is there, the pair is not.
        let told =
            read("m.toml", &format!("{}{rule}", MATRIX.replace("all", "adjacent")), &KNOWN).unwrap_err().to_string();
        assert_eq!(told, "m.toml:5:1: this takes no cell of any matrix");
        assert!(read("m.toml", &format!("{MATRIX}{rule}"), &KNOWN).is_ok());
        let paths = MATRIX.replace("all", "adjacent").replace("7.2.12", "./tree");
        assert!(read("m.toml", &format!("{paths}{rule}"), &KNOWN).is_ok(), "who knows what ./tree is");
        // What is wrong with a matrix is no fault of an expectation.
        let told = read("m.toml", &format!("{}{rule}", MATRIX.replace("all", "al")), &KNOWN).unwrap_err().to_string();
        assert!(told.starts_with("m.toml:3:9: `al` is no choice") && !told.contains("takes no"), "{told}");
    }

    #[test]
    fn the_probes_of_a_loss_are_named() {
        let rule = |rest: &str| {
            let text = format!("{MATRIX}[[expect]]\nsource = \"7.0\"\ntarget = \"7.3\"\nreason = \"x\"\n{rest}\n");
            read("m.toml", &text, &KNOWN).map(|file| file.expectations).map_err(|mistakes| mistakes.to_string())
        };
        let named = rule("outcome = \"lost\"\nbroken = [\"D3 *\", \"D4 *\"]").unwrap();
        assert_eq!(named.of(&subject("7.0.13", "7.3.4")).unwrap().broken, ["D3 *", "D4 *"]);
        let any = rule("outcome = \"lost\"").unwrap();
        assert!(any.of(&subject("7.0.13", "7.3.4")).unwrap().broken.is_empty());
        for (rest, told) in [
            (
                "outcome = \"crashed\"\nbroken = [\"D3 *\"]",
                "m.toml:10:11: no probe decides that a cell is `crashed`\n  \
                 hint: `broken` names the probes that do not hold in a cell that is `lost`",
            ),
            (
                "outcome = \"lost\"\nbroken = [\"D3 *\", \" \"]",
                "m.toml:10:19: this takes no probe\n  \
                 hint: probes are named as reports have them, with * and ? as in \"D4 *\"",
            ),
            (
                "outcome = \"lost\"\nunsteady = [\"D3 *\"]",
                "m.toml:10:13: this says nothing without `broken`\n  \
                 hint: `broken` names those that never hold; without it, any may not",
            ),
            ("outcome = \"lost\"\nbroken = \"D3 *\"", "m.toml:10:10: `broken` must be a list of strings, not a string"),
        ] {
            assert_eq!(rule(rest).unwrap_err(), told);
        }
    }

    #[test]
    fn a_rule_takes_a_cell_by_its_pair_its_machine_and_its_workload_at_once() {
        let known = Known { workloads: &["memfd.basic", "memfd.sealed"], profiles: &["q35-intel", "q35-amd"], ..KNOWN };
        let takes = |matrices: &str, of: &str| {
            let rule = "[[expect]]\nsource = \"7.2\"\ntarget = \"7.3\"\noutcome = \"crashed\"\nreason = \"x\"\n";
            read("m.toml", &format!("{matrices}{rule}{of}\n"), &known).is_ok()
        };
        let matrix = |name: &str, kernels: &str, pairs: &str, rest: &str| {
            format!("[matrix.{name}]\nkernels = [{kernels}]\npairs = \"{pairs}\"\n{rest}\n")
        };
        let (both, basic) = ("\"7.2.12\", \"7.3.4\"", "workloads = [\"memfd.basic\"]");
        let intel = format!("{basic}\nprofiles = [\"q35-intel\"]");
        let one = matrix("a", both, "all", basic);
        assert!(takes(&one, "workload = \"memfd.b*\"") && !takes(&one, "workload = \"memfd.s*\""));
        assert!(takes(&one, "profile = \"q35-amd\""), "each workload brings its own");
        let on_intel = matrix("a", both, "all", &intel);
        assert!(takes(&on_intel, "profile = \"q35-i*\"") && !takes(&on_intel, "profile = \"q35-a*\""));
        // One matrix has the pair, another the workload: no cell has both.
        let sealed = matrix("b", "\"7.3.4\"", "all", "workloads = [\"memfd.sealed\"]");
        assert!(!takes(&format!("{one}{sealed}"), "workload = \"memfd.sealed\""));
        // ./tree may be a 7.3.
        assert!(takes(&matrix("a", "\"7.2.12\", \"./tree\"", "7.2 -> 7.3", basic), ""));
    }
}
