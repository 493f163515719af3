//! TOML with positions. All mistakes of a file are reported at once, each with line, column and a hint.

use std::cell::RefCell;
use std::fmt;
use std::num::IntErrorKind;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The mistakes of a file, in the order of their positions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// The file, as the caller named it.
    pub file: String,
    /// One or more mistakes.
    pub mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
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

/// Reads a document. `read` takes the keys that it knows from the table and reports what is wrong with them.
pub fn read<T>(file: &str, text: &str, read: impl FnOnce(&Table<'_>) -> Option<T>) -> Result<T, Mistakes> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let notes = Notes { text, mistakes: RefCell::default() };
    // Later errors often only follow from the first.
    if let Some(error) = errors.first() {
        notes.add(error.span().unwrap_or(0..0), error.message().to_owned(), None);
    }
    let span = document.span();
    let value = if errors.is_empty() {
        let table = Table {
            entries: document.get_ref(),
            span,
            notes: &notes,
            known: RefCell::default(),
            old: RefCell::default(),
        };
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

/// A table that is being read. A key that nobody asked for is unknown, so a reader asks for all keys before it gives
/// up on one.
pub struct Table<'a> {
    entries: &'a DeTable<'a>,
    span: Range<usize>,
    notes: &'a Notes<'a>,
    known: RefCell<Vec<&'static str>>,
    /// Old names of keys: accepted, and never suggested.
    old: RefCell<Vec<&'static str>>,
}

/// A text with its position, so that a mistake in it can be reported later.
#[derive(Clone)]
pub struct Text<'a> {
    /// The text.
    pub text: &'a str,
    span: Range<usize>,
    notes: &'a Notes<'a>,
}

impl Text<'_> {
    /// Reports a mistake in the text.
    pub fn wrong(&self, message: impl Into<String>, hint: Option<String>) {
        self.notes.add(self.span.clone(), message.into(), hint);
    }
}

impl<'a> Table<'a> {
    fn find(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.value(key)
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
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

    /// A string, if the key exists.
    pub fn text(&self, key: &'static str) -> Option<Text<'a>> {
        self.find(key).and_then(|value| self.as_text(value, &format!("`{key}`")))
    }

    /// Whether a key exists.
    pub fn has(&self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// Whether a key has a string, for keys that may also have a table.
    pub fn has_text(&self, key: &'static str) -> bool {
        self.find(key).is_some_and(|value| value.get_ref().as_str().is_some())
    }

    /// Whether a key has a table, for keys that may also have a string.
    pub fn has_table(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().as_table().is_some())
    }

    /// Whether a key has `true` or `false`, for keys that may also have a list.
    pub fn has_flag(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().as_bool().is_some())
    }

    /// A string that is required.
    pub fn needed_text(&self, key: &'static str) -> Option<Text<'a>> {
        let text = self.text(key);
        self.need(key, text)
    }

    /// A list of strings; empty if the key does not exist.
    pub fn texts(&self, key: &'static str) -> Vec<Text<'a>> {
        self.find(key).map_or_else(Vec::new, |value| self.list(key, value))
    }

    fn list(&self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Vec<Text<'a>> {
        match value.get_ref().as_array() {
            Some(values) => values.iter().filter_map(|value| self.as_text(value, &format!("`{key}`"))).collect(),
            None => {
                let message = format!("`{key}` must be a list of strings, not {}", kind(value.get_ref()));
                self.notes.add(value.span(), message, None);
                Vec::new()
            }
        }
    }

    /// A list of strings under a key that had another name before. Either name is accepted, both at once are a
    /// mistake.
    pub fn renamed_texts(&self, key: &'static str, old: &'static str) -> Vec<Text<'a>> {
        self.old.borrow_mut().push(old);
        let texts = self.texts(key);
        let Some(value) = self.value(old) else { return texts };
        if self.value(key).is_some() {
            let message = format!("`{old}` is the old name of `{key}`");
            self.notes.add(value.span(), message, Some("keep one of the two".to_owned()));
            return texts;
        }
        self.list(old, value)
    }

    /// A string or a list of strings; empty if the key does not exist.
    pub fn text_or_texts(&self, key: &'static str) -> Vec<Text<'a>> {
        match self.find(key) {
            Some(value) if value.get_ref().as_str().is_some() => self.text(key).into_iter().collect(),
            _ => self.texts(key),
        }
    }

    /// A positive integer, if the key exists.
    pub fn number(&self, key: &'static str) -> Option<u64> {
        let value = self.find(key)?;
        let number = whole(value.get_ref()).filter(|number| *number > 0);
        if number.is_none() {
            self.notes.add(value.span(), no_number(key, value.get_ref(), "a positive"), None);
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

    /// A table, if the key exists.
    pub fn table<T>(&self, key: &'static str, read: impl FnOnce(&Table<'a>) -> Option<T>) -> Option<T> {
        let value = self.find(key)?;
        self.as_table(value, key).and_then(|table| {
            let read = read(&table);
            table.finish();
            read
        })
    }

    /// All tables under a key, by name: `[key.NAME]`. None if one of them could not be read; the others are read too.
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
        // Collected first, since the first None would end the iteration.
        all.collect::<Vec<_>>().into_iter().collect()
    }

    /// Every entry as a name and a string.
    pub fn all_texts(&self) -> Vec<(Text<'a>, Text<'a>)> {
        self.entries
            .iter()
            .filter_map(|(name, value)| {
                // Every name is valid here.
                let text = self.as_text(value, &format!("`{}`", name.get_ref()))?;
                Some((Text { text: name.get_ref(), span: name.span(), notes: self.notes }, text))
            })
            .collect()
    }

    /// Every entry as a name and an integer that is not negative.
    pub fn all_numbers(&self) -> Vec<(Text<'a>, u64)> {
        self.entries
            .iter()
            .filter_map(|(name, value)| {
                let number = whole(value.get_ref());
                if number.is_none() {
                    let message = no_number(name.get_ref(), value.get_ref(), "a non-negative");
                    self.notes.add(value.span(), message, None);
                }
                Some((Text { text: name.get_ref(), span: name.span(), notes: self.notes }, number?))
            })
            .collect()
    }

    /// How many mistakes of the document were reported so far.
    pub fn mistakes(&self) -> usize {
        self.notes.mistakes.borrow().len()
    }

    /// Reports a mistake in the table as a whole.
    pub fn wrong(&self, message: impl Into<String>, hint: Option<String>) {
        self.notes.add(self.span.clone(), message.into(), hint);
    }

    fn as_table(&self, value: &'a Spanned<DeValue<'a>>, key: &str) -> Option<Table<'a>> {
        let entries = value.get_ref().as_table();
        if entries.is_none() {
            self.notes.add(value.span(), format!("`{key}` must be a table, not {}", kind(value.get_ref())), None);
        }
        entries.map(|entries| Table {
            entries,
            span: value.span(),
            notes: self.notes,
            known: RefCell::default(),
            old: RefCell::default(),
        })
    }

    fn finish(&self) {
        let known = self.known.borrow();
        // A table that was read by its entries has no unknown keys.
        if known.is_empty() {
            return;
        }
        let old = self.old.borrow();
        let is_known = |name: &str| known.contains(&name) || old.contains(&name);
        for (name, _) in self.entries.iter().filter(|(name, _)| !is_known(name.get_ref())) {
            let hint = nearest(name.get_ref(), known.iter().copied())
                .map_or_else(|| format!("valid keys: {}", known.join(", ")), |near| format!("is `{near}` meant?"));
            self.notes.add(name.span(), format!("unknown key `{}`", name.get_ref()), Some(hint));
        }
    }
}

/// An integer in decimal, 0x, 0o or 0b, with or without `_`.
fn whole(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What is wrong with a number. One that is too large has the right kind, so it gets a message of its own.
fn no_number(key: &str, value: &DeValue<'_>, wanted: &str) -> String {
    let number = value.as_integer().map(|number| u64::from_str_radix(number.as_str(), number.radix()));
    match number {
        Some(Err(error)) if *error.kind() == IntErrorKind::PosOverflow => format!("`{key}` is too large"),
        _ => format!("`{key}` must be {wanted} integer"),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known word that `word` may misspell: at most two edits away, and less than half of its length.
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
    fn all_mistakes_are_reported_at_once_with_their_positions() {
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
    fn a_syntax_error_has_its_position() {
        let told = mistakes("name = \"x\"\nkernels = [\n[matrix.quick]\npairs = \"all\"\nx = 1\n");
        assert!(told.starts_with("m.toml:") && told.lines().count() == 1, "{told}");
    }

    #[test]
    fn a_misspelt_word_is_near_and_another_word_is_not() {
        assert_eq!(nearest("kernles", ["kernels", "pairs"]), Some("kernels"));
        assert_eq!(nearest("lunch", ["kernels", "pairs"]), None);
    }
}
