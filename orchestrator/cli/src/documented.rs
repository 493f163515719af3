//! The commands that documents, hints and scripts name are commands.

use crate::Cli;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use std::fs;
use std::path::{Path, PathBuf};

/// The files below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str], into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, endings, into);
        } else if path.extension().is_some_and(|it| endings.iter().any(|ending| it == *ending)) {
            into.push(path);
        }
    }
}

/// The commands in a text: indented lines that begin with `luqual`, and what is between backticks.
fn commands(text: &str) -> Vec<String> {
    let indented = text.lines().filter(|line| line.starts_with("  ")).map(|line| line.trim().trim_start_matches("$ "));
    let lines = indented.filter(|line| line.starts_with("luqual ") && !line.contains('`'));
    let mut found: Vec<String> = lines.map(str::to_owned).collect();
    // A command between backticks may go on in the next line, of a comment too.
    let joined = text.lines().map(|line| line.trim().trim_start_matches("///").trim_start_matches("//!").trim());
    let joined = joined.collect::<Vec<_>>().join(" ");
    let inline = joined.split('`').filter(|part| part.starts_with("luqual ") && part.len() < 200);
    found.extend(inline.map(str::to_owned));
    found
}

/// The words of a command, up to a comment, another program, or what is left out.
fn words(command: &str) -> Vec<String> {
    let end = ["  (", " # ", "  #", " | ", " > ", " & ", " && ", "; ", " …", "…", " ...", "\\", "\"", "} "];
    let end = end.iter().filter_map(|stop| command.find(stop)).min().unwrap_or(command.len());
    let plain: String = command[..end].chars().filter(|letter| !"[]".contains(*letter)).collect();
    shlex::split(&plain).unwrap_or_default()
}

/// The error of a command that nobody can give. That values are missing is no mistake, nor is a name in capitals that
/// stands for a command.
fn mistake(words: &[String]) -> Option<String> {
    if words.get(1).is_some_and(|word| word.chars().all(|letter| letter.is_ascii_uppercase())) {
        return None;
    }
    let error = Cli::try_parse_from(words).err()?;
    let is_wrong = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand);
    is_wrong.then(|| error.to_string())
}

/// The commands of xtask's steps: the literals after a luqual.
fn of_steps(text: &str) -> Vec<Vec<String>> {
    let programs = ["\"{luqual}\"", "\"{release}\""];
    let after = programs.iter().flat_map(|program| text.split(program).skip(1));
    let words = after.map(|rest| {
        // A `concat!` is one word, and the comma in it none.
        let mut depth = 0;
        let is_between = |letter: char| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            letter == ',' && depth == 0
        };
        let literals = rest.split(']').next().unwrap_or_default().split(is_between).map(str::trim);
        let word = |it: &str| it.strip_prefix('"').map_or("x".to_owned(), |it| it.trim_end_matches('"').to_owned());
        ["luqual".to_owned()].into_iter().chain(literals.filter(|it| !it.is_empty()).map(word)).collect()
    });
    words.collect()
}

#[test]
fn what_is_documented_can_be_given() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = vec![root.join("README.md"), root.join("ARCHITECTURE.md"), root.join("matrix.toml")];
    files(&root.join("docs"), &["md"], &mut sources);
    for folder in ["orchestrator", "reports", "kernels"] {
        files(&root.join(folder), &["rs", "toml"], &mut sources);
    }
    // Words that the tests of other crates make up.
    sources
        .retain(|path| !path.components().any(|part| part.as_os_str() == "tests") && !path.ends_with("documented.rs"));
    let (mut count, mut mistakes) = (0, Vec::new());
    for source in sources {
        for command in commands(&fs::read_to_string(&source).unwrap()) {
            count += 1;
            mistakes.extend(mistake(&words(&command)).map(|told| format!("{}: {command}\n{told}", source.display())));
        }
    }
    let steps = of_steps(&fs::read_to_string(root.join("ci/xtask/src/steps.rs")).unwrap());
    mistakes.extend(steps.iter().filter_map(|words| Some(format!("steps.rs: {words:?}\n{}", mistake(words)?))));
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert!(count >= 100 && steps.len() >= 4, "{count} commands were found, and {} of steps", steps.len());
}

#[test]
fn a_command_that_is_not_one_is_found() {
    let found =
        commands("see\n    luqual run --bogus 3   # why\nand `luqual nothing`, or `luqual run --matrix\n/// full`");
    let words: Vec<_> = found.iter().map(|command| words(command)).collect();
    assert_eq!(
        words,
        [&["luqual", "run", "--bogus", "3"][..], &["luqual", "nothing"], &["luqual", "run", "--matrix", "full"]]
    );
    let is_wrong: Vec<bool> = words.iter().map(|words| mistake(words).is_some()).collect();
    assert_eq!(is_wrong, [true, true, false]);
    let steps = of_steps("[\"{luqual}\", \"run\", $name, concat!(\"a\", $name), \"--x\"]");
    assert_eq!(steps, [["luqual", "run", "x", "x", "--x"]]);
}

/// clap breaks longer lines, and the lines of a paragraph are then of two lengths.
#[test]
fn what_follows_the_options_fits_a_terminal() {
    fn wide(command: &clap::Command, into: &mut Vec<String>) {
        let after = [command.get_after_help(), command.get_after_long_help()].into_iter().flatten();
        let text = after.map(ToString::to_string).collect::<Vec<_>>().join("\n");
        into.extend(
            text.lines().filter(|line| line.chars().count() > 80).map(|line| format!("{}: {line}", command.get_name())),
        );
        command.get_subcommands().for_each(|command| wide(command, into));
    }
    let mut found = Vec::new();
    wide(&Cli::command(), &mut found);
    assert!(found.is_empty(), "longer than 80 letters:\n{}", found.join("\n"));
}
