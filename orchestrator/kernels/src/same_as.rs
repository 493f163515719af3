//! `same_as` in a catalog: the kernel of another entry, with another command line. Nothing is built for it.

use crate::catalog::Entry;
use luqual_config::document::{Table, Text, nearest};
use luqual_model::is_options;

/// An entry as it is written.
pub(crate) enum Written<'a> {
    /// A kernel that can be built.
    Built(Box<Entry>),
    /// The kernel of another entry.
    Same(Same<'a>),
}

/// The kernel of another entry.
pub(crate) struct Same<'a> {
    name: String,
    same_as: Text<'a>,
    /// What is added to the other entry's command line.
    append: Option<String>,
}

impl<'a> Same<'a> {
    pub(crate) fn read(name: Text<'a>, same_as: Text<'a>, table: &Table<'a>) -> Self {
        let append = table.needed_text("append");
        if let Some(append) = &append
            && (append.text.trim().is_empty() || !is_options(append.text))
        {
            append.wrong("`append` is options of a kernel, in printable ASCII, separated by spaces", None);
        }
        Self { name: name.text.to_owned(), same_as, append: append.map(|append| append.text.trim().to_owned()) }
    }

    fn entry(&self, built: &[&Entry]) -> Option<Entry> {
        let Some(base) = built.iter().find(|entry| entry.version == self.same_as.text) else {
            let names = built.iter().map(|entry| entry.version.as_str());
            let hint = nearest(self.same_as.text, names).map_or_else(
                || "name an entry of this file that has a source".to_owned(),
                |near| format!("is `{near}` meant?"),
            );
            self.same_as.wrong(format!("`{}` is no kernel that is built", self.same_as.text), Some(hint));
            return None;
        };
        let command_line = format!("{} {}", base.command_line, self.append.as_ref()?).trim().to_owned();
        Some(Entry { version: self.name.clone(), command_line, ..(*base).clone() })
    }
}

/// All entries, in their order. None if an entry is the same as none, which is reported.
pub(crate) fn resolve(written: Vec<Written<'_>>) -> Option<Vec<Entry>> {
    let of = |written: &Written<'_>| match written {
        Written::Built(entry) => Some((**entry).clone()),
        Written::Same(_) => None,
    };
    let built: Vec<Entry> = written.iter().filter_map(of).collect();
    let built: Vec<&Entry> = built.iter().collect();
    let all = written.iter().map(|it| match it {
        Written::Built(entry) => Some((**entry).clone()),
        Written::Same(same) => same.entry(&built),
    });
    // Collected first, since the first None would end the iteration.
    all.collect::<Vec<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;
    use std::fs;

    fn catalog(more: &str) -> Result<Catalog, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        let built = "[kernel.\"7.3.4\"]\ntree = \"/t\"\nbase = \"allnoconfig\"\nfragments = [\"luqual.config\"]\n\
                     command_line = \"kho=on\"\n";
        fs::write(&file, format!("{built}{more}")).unwrap();
        Catalog::load(Some(&file)).map_err(|error| error.to_string())
    }

    #[test]
    fn another_command_line_is_another_entry_of_the_same_kernel() {
        let catalog = catalog("[kernel.\"7.3.4-a\"]\nsame_as = \"7.3.4\"\nappend = \" no5lvl \"\n").unwrap();
        let [plain, other] = ["7.3.4", "7.3.4-a"].map(|name| catalog.find(name).unwrap());
        assert_eq!((other.command_line.as_str(), other.built_as.as_str()), ("kho=on no5lvl", "7.3.4"));
        assert_eq!((&other.source, &other.fragment), (&plain.source, &plain.fragment));
        assert!(plain.is_plain() && !other.is_plain());
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        for (more, told) in [
            (
                "same_as = \"7.3.5\"\nappend = \"a\"\n",
                ":7:11: `7.3.5` is no kernel that is built\n  hint: is `7.3.4` meant?",
            ),
            ("same_as = \"7.3.4-a\"\nappend = \"a\"\n", "is no kernel that is built"),
            ("same_as = \"7.3.4\"\n", "`append` is missing"),
            ("same_as = \"7.3.4\"\nappend = \" \"\n", ":8:10: `append` is options of a kernel"),
            ("same_as = \"7.3.4\"\nappend = \"a\"\ntree = \"/t\"\n", "unknown key `tree`"),
        ] {
            let mistakes = catalog(&format!("[kernel.\"7.3.4-a\"]\n{more}")).unwrap_err();
            assert!(mistakes.contains(told), "{mistakes}, not {told}");
        }
    }
}
