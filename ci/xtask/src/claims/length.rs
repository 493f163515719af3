//! How long files are: their lines but those of items that are for tests alone; a file of tests is counted whole.

use super::exceptions::Exceptions;
use super::source::Source;
use std::collections::BTreeMap;

const FILE: usize = 500;
const COMMAND: usize = 150;
/// Where commands are.
const COMMANDS: &str = "orchestrator/cli/src/commands/";

/// Files that are too long, and exceptions that are none.
pub(crate) fn wrong(sources: &[Source], exceptions: &Exceptions) -> Vec<String> {
    let mut wrong = longer(sources.iter(), FILE, &exceptions.long_files);
    let commands = sources.iter().filter(|it| it.path.starts_with(COMMANDS));
    wrong.extend(longer(commands, COMMAND, &exceptions.long_commands));
    wrong
}

fn longer<'a>(
    sources: impl Iterator<Item = &'a Source>,
    limit: usize,
    exceptions: &BTreeMap<String, usize>,
) -> Vec<String> {
    let mut left = exceptions.clone();
    let mut wrong = Vec::new();
    for Source { path, lines, .. } in sources {
        match left.remove(path) {
            Some(_) if *lines <= limit => {
                wrong.push(format!("ci/xtask/exceptions.toml: {path} has {lines} lines: it is no exception any more"));
            }
            Some(known) if *lines > known => {
                wrong.push(format!("{path}: {lines} lines of code; {limit} is the limit, and {known} its exception"));
            }
            None if *lines > limit => wrong.push(format!("{path}: {lines} lines of code; {limit} is the limit")),
            _ => {}
        }
    }
    wrong.extend(left.keys().map(|path| format!("ci/xtask/exceptions.toml: there is no {path}")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: usize, exception: Option<usize>) -> Vec<String> {
        let source = Source { lines, ..Source::parse("a.rs".to_owned(), "").unwrap() };
        let exceptions = exception.map(|lines| ("a.rs".to_owned(), lines)).into_iter().collect();
        longer([source].iter(), 10, &exceptions)
    }

    #[test]
    fn a_long_file_is_told_and_an_exception_that_is_none() {
        assert_eq!(told(10, None), Vec::<String>::new());
        assert_eq!(told(11, None), ["a.rs: 11 lines of code; 10 is the limit"]);
        assert_eq!(told(11, Some(11)), Vec::<String>::new());
        assert_eq!(told(12, Some(11)), ["a.rs: 12 lines of code; 10 is the limit, and 11 its exception"]);
        assert!(told(10, Some(11))[0].contains("no exception any more"));
        let exceptions = BTreeMap::from([("gone.rs".to_owned(), 20)]);
        assert_eq!(longer([].iter(), 10, &exceptions), ["ci/xtask/exceptions.toml: there is no gone.rs"]);
    }
}
