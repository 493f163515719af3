//! Whether the source is as ARCHITECTURE.md says: which crate uses which, where `unsafe` stands, how long files are, and that
//! a crate can be read bottom-up. `exceptions.toml` has what does not hold yet; that list may only shrink.

mod architecture;
mod arrows;
mod circles;
mod exceptions;
mod figures;
mod length;
mod source;

use exceptions::Exceptions;
use source::Source;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Prints what does not hold.
pub(crate) fn check(root: &Path) -> ExitCode {
    match wrong(root) {
        Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Ok(wrong) => {
            wrong.iter().for_each(|line| println!("{line}"));
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(3)
        }
    }
}

/// Draws the figures of ARCHITECTURE.md.
pub(crate) fn draw(root: &Path) -> ExitCode {
    let path = root.join("ARCHITECTURE.md");
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let drawn = || {
        let text = std::fs::read_to_string(&path).map_err(told)?;
        std::fs::write(&path, figures::drawn(&text, &arrows::crates(root)?)?).map_err(told)
    };
    match drawn() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(3)
        }
    }
}

/// What does not hold, a line or more for each claim; an error where that could not be found out.
pub(crate) fn wrong(root: &Path) -> Result<Vec<String>, String> {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"));
    let architecture = read("ARCHITECTURE.md")?;
    let exceptions = Exceptions::parse(&read("ci/xtask/exceptions.toml")?)?;
    let crates = arrows::crates(root)?;
    let sources = Source::all(root, &crates)?;
    let mut wrong = Vec::new();
    wrong.extend(arrows::wrong(&crates, &block(&architecture, "crates")?));
    wrong.extend(figures::wrong(&architecture, &crates)?);
    wrong.extend(source::wrong_unsafe(&sources, &block(&architecture, "unsafe")?));
    wrong.extend(architecture::wrong(root, &sources)?);
    wrong.extend(source::wrong_examples(&sources));
    wrong.extend(length::wrong(&sources, &exceptions));
    wrong.extend(circles::wrong(root, &crates, &exceptions)?);
    Ok(wrong)
}

/// The lines of the only fenced block of that language.
fn block<'a>(text: &'a str, language: &str) -> Result<Vec<&'a str>, String> {
    let begin = format!("```{language}");
    let mut after = text.split('\n').skip_while(|line| line.trim_end() != begin).skip(1).peekable();
    if after.peek().is_none() {
        return Err(format!("ARCHITECTURE.md has no block that begins with {begin}"));
    }
    Ok(after.take_while(|line| line.trim_end() != "```").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_found_by_its_language() {
        let text = "a\n```x\nno\n```\n```crates\none -> two\ntwo\n```\nb\n";
        assert_eq!(block(text, "crates").unwrap(), ["one -> two", "two"]);
        assert!(block(text, "unsafe").unwrap_err().contains("```unsafe"));
    }
}
