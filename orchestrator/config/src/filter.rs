//! Selects cells by an expression such as `source(<7.1) & target(>=7.1) & !workload(memfd.*)`.

use luqual_model::{RANGE_SYNTAX, Version, VersionRange, matches};
use std::str::FromStr;

/// An expression over cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Expression);

/// A kernel as filters and expectations see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The name that the user gave.
    pub name: &'a str,
    /// The release.
    pub release: &'a str,
}

/// A cell as filters and expectations see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The kernel before the kexec.
    pub source: Named<'a>,
    /// The kernel after it.
    pub target: Named<'a>,
    /// The name of the profile.
    pub profile: &'a str,
    /// The name of the workload.
    pub workload: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Kernel(End, KernelPattern),
    Profile(String),
    Workload(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Target,
}

/// A pattern for kernels: a range of versions, or a glob over names, for kernels by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelPattern {
    /// Kernels by release.
    Versions(VersionRange),
    /// Kernels by the name that the user gave. A catalog name that is more than a version, such as `7.3.4-mine`, is
    /// one too.
    Name(String),
}

impl KernelPattern {
    /// Whether the pattern matches the kernel.
    pub fn takes(&self, kernel: Named<'_>) -> bool {
        match self {
            Self::Versions(range) => range.contains_release(kernel.release),
            Self::Name(glob) => matches(glob, kernel.name) || matches(glob, kernel.release),
        }
    }
}

impl FromStr for KernelPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A path has a slash or is a dot; a version has no slash.
        if text == "." || text.contains('/') {
            return Ok(Self::Name(text.to_owned()));
        }
        // 7.3.4-mine is one kernel, not every 7.3.4.
        if is_variant(text) {
            return Ok(Self::Name(text.to_owned()));
        }
        text.parse().map(Self::Versions)
    }
}

/// Whether `text` is a version with a suffix other than that of a release candidate.
fn is_variant(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_word = rest.starts_with(['-', '+', '_', '~']) && !rest.contains([',', '<', '>', '=']);
    Version::of(text).is_some() && is_word && Version::whole(text).is_none()
}

impl Filter {
    /// Whether the filter matches the cell.
    pub fn takes(&self, subject: &Subject<'_>) -> bool {
        self.0.takes(subject)
    }
}

impl Expression {
    fn takes(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.takes(subject)),
            Self::All(parts) => parts.iter().all(|part| part.takes(subject)),
            Self::Not(part) => !part.takes(subject),
            Self::Kernel(End::Source, pattern) => pattern.takes(subject.source),
            Self::Kernel(End::Target, pattern) => pattern.takes(subject.target),
            Self::Profile(glob) => matches(glob, subject.profile),
            Self::Workload(glob) => matches(glob, subject.workload),
        }
    }
}

/// A mistake in an expression, and its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter, at character {column}: {message}\n  {text}\n  {0:>1$}", "^", .column)]
pub struct FilterError {
    text: String,
    /// The column in characters, from 1.
    column: usize,
    message: String,
}

/// The syntax of expressions, for help and hints.
pub const FILTER_SYNTAX: &str = "source(RANGE), target(RANGE), workload(GLOB), profile(GLOB), joined by &, |, ! and ()";

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        let expression = parser.any()?;
        match parser.peek() {
            None => Ok(Self(expression)),
            Some(_) => Err(parser.wrong("expected & or | here")),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// The offset in bytes.
    at: usize,
    /// The number of open `!` and `(`.
    depth: usize,
}

/// The deepest nesting. The parser is recursive, so this bounds its stack.
const DEEPEST: usize = 64;

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn wrong(&self, message: impl Into<String>) -> FilterError {
        let column = self.text[..self.at].chars().count() + 1;
        FilterError { text: self.text.to_owned(), column, message: message.into() }
    }

    fn any(&mut self) -> Result<Expression, FilterError> {
        let mut parts = vec![self.all()?];
        while self.take('|') {
            parts.push(self.all()?);
        }
        Ok(Expression::Any(parts))
    }

    fn all(&mut self) -> Result<Expression, FilterError> {
        let mut parts = vec![self.one()?];
        while self.take('&') {
            parts.push(self.one()?);
        }
        Ok(Expression::All(parts))
    }

    fn one(&mut self) -> Result<Expression, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong("this is nested too deeply"));
        }
        let one = self.innermost();
        self.depth -= 1;
        one
    }

    fn innermost(&mut self) -> Result<Expression, FilterError> {
        if self.take('!') {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        if self.take('(') {
            let inner = self.any()?;
            return if self.take(')') { Ok(inner) } else { Err(self.wrong("expected `)` here")) };
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Result<Expression, FilterError> {
        self.peek();
        let length = self.rest().find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest().len());
        let name = &self.rest()[..length];
        if !["source", "target", "workload", "profile"].contains(&name) {
            return Err(self.wrong(format!("expected one of {FILTER_SYNTAX}")));
        }
        self.at += length;
        if !self.take('(') {
            return Err(self.wrong(format!("expected `(` after `{name}`")));
        }
        let end = self.rest().find(')').ok_or_else(|| self.wrong("expected `)` after this"))?;
        let argument = self.rest()[..end].trim();
        let expression = match name {
            "workload" => Expression::Workload(argument.to_owned()),
            "profile" => Expression::Profile(argument.to_owned()),
            kernel => {
                let which = if kernel == "source" { End::Source } else { End::Target };
                let wrong = |why| self.wrong(format!("{why}; write {RANGE_SYNTAX}, or a path with a `/`"));
                Expression::Kernel(which, argument.parse().map_err(wrong)?)
            }
        };
        self.at += end + 1;
        Ok(expression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(filter: &str, source: &str, target: &str) -> bool {
        let subject = Subject {
            source: Named { name: source, release: source },
            target: Named { name: target, release: target },
            profile: "q35-intel",
            workload: "memfd.basic",
        };
        filter.parse::<Filter>().unwrap().takes(&subject)
    }

    #[test]
    fn an_expression_selects_cells() {
        for (filter, expected) in [
            ("source(<7.1) & target(>=7.1)", true),
            ("source(<7.1)&target(>=7.1)&workload(memfd.*)", true),
            ("source(<7.1) & workload(vfio.*)", false),
            ("!source(6.19)", true),
            ("source(6.19) | target(7.2)", true),
            ("source(6.19) & target(7.2) | profile(q35-*)", true),
            ("source(6.19) & (target(7.2) | profile(q35-*))", false),
            ("!(source(7.0) & target(7.2))", false),
            ("source(*) & target( 7.2.12 )", true),
            ("target(./tree)", false),
        ] {
            assert_eq!(takes(filter, "7.0.13", "7.2.12"), expected, "{filter}");
        }
        assert!(takes("target(./t*)", "7.0.13", "./tree"));
    }

    #[test]
    fn a_variant_is_in_the_ranges_of_its_version_and_is_not_its_version() {
        for (filter, expected) in [
            ("target(>=7.3)", true),
            ("target(7.3.4)", true),
            ("target(7.3.4-mine)", true),
            ("target(7.3.4-*)", true),
            ("target(7.3.4-other)", false),
            ("target(<7.3)", false),
            ("source(7.3.4-mine)", false),
            ("source(7.3.4)", true),
        ] {
            assert_eq!(takes(filter, "7.3.4", "7.3.4-mine"), expected, "{filter}");
        }
        // Without a number it is a name, not a release candidate.
        assert!(takes("target(7.2-rc)", "7.1", "7.2-rc") && !takes("target(7.2-rc)", "7.1", "7.2"));
        assert!(takes("source(<7.1-rc2)", "7.1-rc1", "7.1") && takes("source(7.1-rc1)", "7.1-rc1", "7.1"));
    }

    #[test]
    fn a_mistake_has_its_column() {
        for (filter, column, message) in [
            ("", 1, "expected one of source(RANGE)"),
            ("source(<7.1) target(7.2)", 14, "expected & or |"),
            ("source(<7.1) & sauce(7.2)", 16, "expected one of"),
            ("source <7.1", 8, "expected `(` after `source`"),
            ("source(7.1", 8, "expected `)`"),
            ("source(new)", 8, "`new` is not a range of versions"),
            ("(source(7.1)", 13, "expected `)` here"),
            ("source(7.2.12abc)", 8, "`7.2.12abc` is not a range of versions"),
            (&"(".repeat(100_000), 65, "nested too deeply"),
            (&"!".repeat(100_000), 65, "nested too deeply"),
        ] {
            let error = filter.parse::<Filter>().unwrap_err();
            assert_eq!(error.column, column, "{filter}: {error}");
            assert!(error.to_string().contains(message), "{filter}: {error}");
        }
        let wide = "source(7.1) & ".repeat(1000) + "!!((source(7.1)))";
        assert!(wide.parse::<Filter>().is_ok());
        let told = "source(7.1) x".parse::<Filter>().unwrap_err().to_string();
        assert!(told.ends_with("\n  source(7.1) x\n              ^"), "{told}");
    }
}
