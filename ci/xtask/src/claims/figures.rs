//! The figures of ARCHITECTURE.md: which crate uses which, and which module of a crate imports from which. They are made of the
//! source, in the language of Mermaid, and have no arrow that follows from others.

use super::arrows::Crate;
use super::circles;
use super::source::relative;
use std::collections::{BTreeMap, BTreeSet};

/// From a name to those that it uses.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The crates whose modules have a figure.
const OF_MODULES: [&str; 3] = ["agent", "engine", "runner"];

/// The text of ARCHITECTURE.md with figures that are as the source is.
pub(crate) fn drawn(architecture: &str, crates: &[Crate]) -> Result<String, String> {
    let uses = crates.iter().map(|one| (one.name.clone(), one.uses.clone())).collect();
    let mut text = replaced(architecture, "crates", &figure("crates", &uses))?;
    for name in OF_MODULES {
        let one = crates.iter().find(|one| one.name == name).ok_or_else(|| format!("there is no crate {name}"))?;
        let title = format!("modules of {name}");
        text = replaced(&text, &title, &figure(&title, &modules(one)?))?;
    }
    Ok(text)
}

/// What to do if the figures are not as the source is.
pub(crate) fn wrong(architecture: &str, crates: &[Crate]) -> Result<Vec<String>, String> {
    let is_right = drawn(architecture, crates)? == architecture;
    let told = "ARCHITECTURE.md: the figures are not as the source is; cargo xtask figures draws them anew";
    Ok(if is_right { Vec::new() } else { vec![told.to_owned()] })
}

/// Which top-level module of a crate imports from which.
fn modules(one: &Crate) -> Result<Arrows, String> {
    let mut arrows = Arrows::new();
    for root in &one.roots {
        for (file, targets) in circles::graph(root)? {
            let Some(from) = module(&relative(&one.folder, &file)) else { continue };
            let targets = targets.iter().filter_map(|target| module(&relative(&one.folder, target)));
            let targets: Vec<String> = targets.filter(|to| *to != from).collect();
            arrows.entry(from).or_default().extend(targets);
        }
    }
    Ok(arrows)
}

/// The top-level module of a file such as `src/boot/driver.rs`; the file with the crate's root has none.
fn module(file: &str) -> Option<String> {
    let name = file.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    (!["lib", "main"].contains(&name)).then(|| name.to_owned())
}

/// A figure's lines, without the fence.
fn figure(title: &str, arrows: &Arrows) -> String {
    let mut lines = vec!["flowchart TD".to_owned(), mark(title)];
    for (from, to) in reduced(arrows) {
        let to = to.into_iter().collect::<Vec<_>>().join(" & ");
        lines.push(if to.is_empty() { format!("    {from}") } else { format!("    {from} --> {to}") });
    }
    lines.join("\n") + "\n"
}

fn mark(title: &str) -> String {
    format!("    %% {title}")
}

/// Without the arrows beside which there is another way. A way through a name that leads back is none, or two names that lead to
/// each other would lose what both use.
fn reduced(arrows: &Arrows) -> Arrows {
    let none = BTreeSet::new();
    let uses = |name: &String| arrows.get(name).unwrap_or(&none);
    let leads = |from: &String, to: &String| {
        let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
        while let Some(name) = open.pop() {
            if name == to {
                return true;
            }
            open.extend(uses(name).iter().filter(|next| seen.insert(next)));
        }
        false
    };
    let is_needed = |from: &String, to: &String| {
        !uses(from).iter().any(|other| other != to && leads(other, to) && !leads(other, from))
    };
    let kept = |from: &String| uses(from).iter().filter(|to| is_needed(from, to)).cloned().collect();
    arrows.keys().map(|from| (from.clone(), kept(from))).collect()
}

/// The text with another figure of that title.
fn replaced(text: &str, title: &str, figure: &str) -> Result<String, String> {
    let begin = format!("```mermaid\nflowchart TD\n{}\n", mark(title));
    let missing = || format!("ARCHITECTURE.md has no figure that begins with {begin:?}");
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once("```").ok_or_else(missing)?;
    Ok(format!("{before}```mermaid\n{figure}```{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(text: &str) -> Arrows {
        let line = |line: &str| {
            let (from, to) = line.split_once(':').unwrap();
            (from.to_owned(), to.split_whitespace().map(str::to_owned).collect())
        };
        text.split(',').map(line).collect()
    }

    #[test]
    fn a_figure_has_no_arrow_that_follows_from_others() {
        assert_eq!(reduced(&arrows("a:b c,b:c,c:")), arrows("a:b,b:c,c:"));
        assert_eq!(reduced(&arrows("a:b c,b:a c,c:")), arrows("a:b c,b:a c,c:"));
        assert_eq!(figure("x", &arrows("a:b c,b:,c:")), "flowchart TD\n    %% x\n    a --> b & c\n    b\n    c\n");
    }

    #[test]
    fn a_figure_that_is_not_as_the_source_is_is_replaced() {
        let text = "x\n```mermaid\nflowchart TD\n    %% t\n    old\n```\ny\n";
        let new = replaced(text, "t", &figure("t", &arrows("a:"))).unwrap();
        assert_eq!(new, "x\n```mermaid\nflowchart TD\n    %% t\n    a\n```\ny\n");
        assert!(replaced(text, "u", "").is_err());
    }

    #[test]
    fn a_module_is_the_first_folder_or_file() {
        assert_eq!(module("src/boot/driver.rs").as_deref(), Some("boot"));
        assert_eq!(module("src/seed.rs").as_deref(), Some("seed"));
        assert_eq!((module("src/lib.rs"), module("build.rs")), (None, None));
    }
}
