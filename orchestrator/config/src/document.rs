//! TOML with positions: every mistake of a file is reported at once, with line, column and a hint.

use std::cell::RefCell;
use std::fmt;
use std::num::IntErrorKind;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file's mistakes, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// The file as it was named.
    pub file: String,
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            let Mistake { line, column, message, hint } = mistake;
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}:{column}: {message}", self.file)?;
            if let Some(hint) = hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// Reads a document: `read` takes what it knows from the table and says what is wrong with it.
pub fn read<T>(file: &str, text: &str, read: impl FnOnce(&Table<'_>) -> Option<T>) -> Result<T, Mistakes> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let notes = Notes { text, mistakes: RefCell::default() };
    // What follows the first of them is often only its echo.
    if let Some(error) = errors.first() {
        notes.add(error.span().unwrap_or(0..0), error.message().to_owned(), None);
    }
    let span = document.span();
    let value = if errors.is_empty() {
        let table = Table { entries: document.get_ref(), span, notes: &notes, known: RefCell::default() };
        let value = read(&table);
        table.finish();
        value
    } else {
        None
    };
    let mut mistakes = notes.mistakes.into_inner();
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    match value {
        Some(value) if mistakes.is_empty() => Ok(value),
        _ => Err(Mistakes { file: file.to_owned(), mistakes }),
    }
}

struct Notes<'a> {
    text: &'a str,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Notes<'_> {
    fn add(&self, span: Range<usize>, message: String, hint: Option<String>) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.mistakes.borrow_mut().push(Mistake { line, column, message, hint });
    }
}

/// A table that is being read. What nobody asked for is an unknown key: ask for all keys before giving up on one.
pub struct Table<'a> {
    entries: &'a DeTable<'a>,
    span: Range<usize>,
    notes: &'a Notes<'a>,
    known: RefCell<Vec<&'static str>>,
}

/// A text with its place, so that its meaning can be criticised later.
#[derive(Clone)]
pub struct Text<'a> {
    /// What stands there.
    pub text: &'a str,
    span: Range<usize>,
    notes: &'a Notes<'a>,
}

impl Text<'_> {
    /// Says what is wrong with it.
    pub fn wrong(&self, message: impl Into<String>, hint: Option<String>) {
        self.notes.add(self.span.clone(), message.into(), hint);
    }
}

impl<'a> Table<'a> {
    fn find(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.entries.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    fn need<T>(&self, key: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.entries.iter().any(|(name, _)| name.get_ref().as_ref() == key) {
            self.notes.add(self.span.clone(), format!("`{key}` is missing"), None);
        }
        value
    }

    fn as_text(&self, value: &'a Spanned<DeValue<'a>>, what: &str) -> Option<Text<'a>> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.notes.add(value.span(), format!("{what} must be a string, not {}", kind(value.get_ref())), None);
        }
        text.map(|text| Text { text, span: value.span(), notes: self.notes })
    }

    /// A string, if it is there.
    pub fn text(&self, key: &'static str) -> Option<Text<'a>> {
        self.find(key).and_then(|value| self.as_text(value, &format!("`{key}`")))
    }

    /// Whether a key is there as a string, for those that may also be a table.
    pub fn has_text(&self, key: &'static str) -> bool {
        self.find(key).is_some_and(|value| value.get_ref().as_str().is_some())
    }

    /// A string that must be there.
    pub fn needed_text(&self, key: &'static str) -> Option<Text<'a>> {
        let text = self.text(key);
        self.need(key, text)
    }

    /// A list of strings; empty if it is not there.
    pub fn texts(&self, key: &'static str) -> Vec<Text<'a>> {
        let Some(value) = self.find(key) else { return Vec::new() };
        match value.get_ref().as_array() {
            Some(values) => values.iter().filter_map(|value| self.as_text(value, &format!("`{key}`"))).collect(),
            None => {
                let message = format!("`{key}` must be a list of strings, not {}", kind(value.get_ref()));
                self.notes.add(value.span(), message, None);
                Vec::new()
            }
        }
    }

    /// A string or a list of strings; empty if it is not there.
    pub fn text_or_texts(&self, key: &'static str) -> Vec<Text<'a>> {
        match self.find(key) {
            Some(value) if value.get_ref().as_str().is_some() => self.text(key).into_iter().collect(),
            _ => self.texts(key),
        }
    }

    /// A whole number from 1, if it is there.
    pub fn number(&self, key: &'static str) -> Option<u64> {
        let value = self.find(key)?;
        let number = whole(value.get_ref()).filter(|number| *number > 0);
        if number.is_none() {
            self.notes.add(value.span(), no_number(key, value.get_ref(), "from 1"), None);
        }
        number
    }

    /// Whether a key is set to true.
    pub fn flag(&self, key: &'static str) -> bool {
        let Some(value) = self.find(key) else { return false };
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            let message = format!("`{key}` must be true or false, not {}", kind(value.get_ref()));
            self.notes.add(value.span(), message, None);
        }
        flag.unwrap_or_default()
    }

    /// All tables of a list: `[[key]]`.
    pub fn tables<T>(&self, key: &'static str, mut read: impl FnMut(&Table<'a>) -> Option<T>) -> Vec<T> {
        let Some(value) = self.find(key) else { return Vec::new() };
        let Some(values) = value.get_ref().as_array() else {
            self.notes.add(value.span(), format!("`{key}` must be a list of tables, [[{key}]]"), None);
            return Vec::new();
        };
        values
            .iter()
            .filter_map(|value| {
                let table = self.as_table(value, key)?;
                let read = read(&table);
                table.finish();
                read
            })
            .collect()
    }

    /// A table, if it is there.
    pub fn table<T>(&self, key: &'static str, read: impl FnOnce(&Table<'a>) -> Option<T>) -> Option<T> {
        let value = self.find(key)?;
        self.as_table(value, key).and_then(|table| {
            let read = read(&table);
            table.finish();
            read
        })
    }

    /// All tables under a key, by name: `[key.NAME]`. None if one of them could not be read; all are tried.
    pub fn named<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(Text<'a>, &Table<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.find(key) else { return Some(Vec::new()) };
        let tables = self.as_table(value, key)?;
        let all = tables.entries.iter().map(|(name, value)| {
            let table = self.as_table(value, name.get_ref())?;
            let name = Text { text: name.get_ref(), span: name.span(), notes: self.notes };
            let read = read(name, &table);
            table.finish();
            read
        });
        // Through a list of all, since the first None would end it.
        all.collect::<Vec<_>>().into_iter().collect()
    }

    /// Every entry as a name and a string.
    pub fn all_texts(&self) -> Vec<(Text<'a>, Text<'a>)> {
        self.entries
            .iter()
            .filter_map(|(name, value)| {
                // Every name is known here.
                let text = self.as_text(value, &format!("`{}`", name.get_ref()))?;
                Some((Text { text: name.get_ref(), span: name.span(), notes: self.notes }, text))
            })
            .collect()
    }

    /// Every entry as a name and a whole number.
    pub fn all_numbers(&self) -> Vec<(Text<'a>, u64)> {
        self.entries
            .iter()
            .filter_map(|(name, value)| {
                let number = whole(value.get_ref());
                if number.is_none() {
                    let message = no_number(name.get_ref(), value.get_ref(), "that is not negative");
                    self.notes.add(value.span(), message, None);
                }
                Some((Text { text: name.get_ref(), span: name.span(), notes: self.notes }, number?))
            })
            .collect()
    }

    /// How many mistakes of the document were told so far.
    pub fn mistakes(&self) -> usize {
        self.notes.mistakes.borrow().len()
    }

    /// Says that something about the table as a whole is wrong.
    pub fn wrong(&self, message: impl Into<String>, hint: Option<String>) {
        self.notes.add(self.span.clone(), message.into(), hint);
    }

    fn as_table(&self, value: &'a Spanned<DeValue<'a>>, key: &str) -> Option<Table<'a>> {
        let entries = value.get_ref().as_table();
        if entries.is_none() {
            self.notes.add(value.span(), format!("`{key}` must be a table, not {}", kind(value.get_ref())), None);
        }
        entries.map(|entries| Table { entries, span: value.span(), notes: self.notes, known: RefCell::default() })
    }

    fn finish(&self) {
        let known = self.known.borrow();
        // A table that was read by its entries has no keys to know.
        if known.is_empty() {
            return;
        }
        for (name, _) in self.entries.iter().filter(|(name, _)| !known.contains(&name.get_ref().as_ref())) {
            let hint = nearest(name.get_ref(), known.iter().copied())
                .map_or_else(|| format!("known here: {}", known.join(", ")), |near| format!("is `{near}` meant?"));
            self.notes.add(name.span(), format!("unknown key `{}`", name.get_ref()), Some(hint));
        }
    }
}

/// A whole number, in decimal, 0x, 0o or 0b, with or without `_`.
fn whole(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What is wrong with a number that cannot be used. One that is too large is a whole number and not negative.
fn no_number(key: &str, value: &DeValue<'_>, wanted: &str) -> String {
    let number = value.as_integer().map(|number| u64::from_str_radix(number.as_str(), number.radix()));
    match number {
        Some(Err(error)) if *error.kind() == IntErrorKind::PosOverflow => format!("`{key}` is too large a number"),
        _ => format!("`{key}` must be a whole number {wanted}"),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known word that `word` may be a slip of: at most two edits away, and less than half of it.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|known| (distance(word, known), known))
        .filter(|(distance, known)| *distance <= 2 && distance * 2 < known.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in right.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = (diagonal + usize::from(from != *to)).min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> String {
        read("m.toml", text, |table| {
            let name = table.needed_text("name");
            table.texts("kernels");
            table.named("matrix", |_, table| table.needed_text("pairs").map(drop));
            Some(name?.text.to_owned())
        })
        .unwrap_err()
        .to_string()
    }

    #[test]
    fn all_mistakes_come_at_once_with_their_places() {
        let text = "name = 7\nkernals = []\nkernels = [\"a\", 1]\n[matrix.quick]\npair = \"all\"\n";
        assert_eq!(
            mistakes(text),
            "m.toml:1:8: `name` must be a string, not a number\n\
             m.toml:2:1: unknown key `kernals`\n  hint: is `kernels` meant?\n\
             m.toml:3:17: `kernels` must be a string, not a number\n\
             m.toml:4:1: `pairs` is missing\n\
             m.toml:5:1: unknown key `pair`\n  hint: is `pairs` meant?"
        );
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let told = mistakes("name = \"x\"\nkernels = [\n[matrix.quick]\npairs = \"all\"\nx = 1\n");
        assert!(told.starts_with("m.toml:") && told.lines().count() == 1, "{told}");
    }

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        assert_eq!(nearest("kernles", ["kernels", "pairs"]), Some("kernels"));
        assert_eq!(nearest("lunch", ["kernels", "pairs"]), None);
    }
}
