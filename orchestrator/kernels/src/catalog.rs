//! `kernels/catalog.toml`: which kernels can be built by name, and from what.

use crate::error::KernelError;
use luqual_config::document::{self, Table};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const EMBEDDED: &str = include_str!("../../../kernels/catalog.toml");
const EMBEDDED_FRAGMENTS: [(&str, &str); 1] =
    [("luqual.config", include_str!("../../../kernels/config/luqual.config"))];

/// All entries, in the order of their versions in the file.
#[derive(Clone, Debug)]
pub struct Catalog {
    entries: Vec<Entry>,
    is_own: bool,
}

/// One kernel that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, and its release.
    pub version: String,
    /// Where its source is.
    pub source: Source,
    /// All fragments, joined; applied over allnoconfig.
    pub fragment: String,
    /// Option → reason: what the fragment asks for and this kernel does not take.
    pub not_applicable: BTreeMap<String, String>,
    /// What it is booted with.
    pub command_line: String,
}

/// Where a source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A package of Debian's `linux` source package.
    Debian {
        /// Such as `linux-source-7.3`.
        package: String,
        /// Such as `7.3.4-1~bpo13+1`.
        version: String,
        /// Of the .deb.
        sha256: String,
    },
    /// A tarball.
    Tarball {
        /// From where.
        url: String,
        /// Of the tarball.
        sha256: String,
    },
    /// A source tree on this machine, copied before it is built.
    Tree(PathBuf),
}

impl Source {
    /// In one line.
    pub fn provenance(&self) -> String {
        match self {
            Self::Debian { package, version, sha256 } => format!("Debian {package} {version}, sha256 {sha256}"),
            Self::Tarball { url, sha256 } => format!("{url}, sha256 {sha256}"),
            Self::Tree(path) => format!("source tree {}", path.display()),
        }
    }
}

impl Catalog {
    /// The catalog that luqual brings, or the one in `file`, whose fragments are beside it in `config/`.
    pub fn load(file: Option<&Path>) -> Result<Self, KernelError> {
        let Some(path) = file else {
            let fragment = |name: &str| {
                let found = EMBEDDED_FRAGMENTS.iter().find(|(known, _)| *known == name);
                found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "luqual does not bring it".to_owned())
            };
            return Self::read("kernels/catalog.toml", EMBEDDED, &fragment, true);
        };
        let text = std::fs::read_to_string(path).map_err(KernelError::file(path))?;
        let folder = path.parent().unwrap_or(Path::new("")).join("config");
        let fragment = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Self::read(&path.display().to_string(), &text, &fragment, false)
    }

    fn read(file: &str, text: &str, fragment: Fragments<'_>, is_own: bool) -> Result<Self, KernelError> {
        let entries = document::read(file, text, |table| {
            Some(table.named("kernel", |name, table| entry(name.text, table, fragment)))
        })?;
        Ok(Self { entries, is_own })
    }

    /// Whether it is the one that luqual brings.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All names.
    pub fn versions(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.version.as_str()).collect()
    }

    /// The entry of that name.
    pub fn find(&self, version: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.version == version)
    }
}

type Fragments<'a> = &'a dyn Fn(&str) -> Result<String, String>;

fn entry(version: &str, table: &Table<'_>, fragment: Fragments<'_>) -> Option<Entry> {
    let (debian, tarball, tree) = (table.text("debian"), table.text("tarball"), table.text("tree"));
    let sha256 = table.text("sha256");
    let base = table.needed_text("base");
    let fragments = table.texts("fragments");
    let command_line = table.needed_text("command_line");
    let not_applicable = table.table("not_applicable", |table| Some(table.all_texts())).unwrap_or_default();

    if let Some(sha256) = &sha256
        && (sha256.text.len() != 64 || !sha256.text.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        sha256.wrong("`sha256` must be 64 hexadecimal digits", None);
    }
    if let Some(base) = base.filter(|base| base.text != "allnoconfig") {
        base.wrong(format!("unknown base `{}`", base.text), Some("known: allnoconfig".to_owned()));
    }
    let digest = || {
        if sha256.is_none() {
            table.wrong("`sha256` is missing", Some("what is downloaded is trusted by its digest alone".to_owned()));
        }
        sha256.as_ref().map(|sha256| sha256.text.to_ascii_lowercase())
    };
    let source = match (debian, tarball, tree) {
        (Some(debian), None, None) => {
            let parts = debian.text.split_once('_');
            if parts.is_none() {
                debian.wrong("`debian` must be PACKAGE_VERSION, as in linux-source-7.3_7.3.4-1", None);
            }
            digest().zip(parts).map(|(sha256, (package, version))| Source::Debian {
                package: package.to_owned(),
                version: version.to_owned(),
                sha256,
            })
        }
        (None, Some(tarball), None) => digest().map(|sha256| Source::Tarball { url: tarball.text.to_owned(), sha256 }),
        (None, None, Some(tree)) => Some(Source::Tree(tree.text.into())),
        _ => {
            table.wrong(
                format!("kernel `{version}` needs exactly one source"),
                Some("debian, tarball or tree".to_owned()),
            );
            None
        }
    };
    let mut joined = String::new();
    for name in &fragments {
        match fragment(name.text) {
            Ok(text) => joined.push_str(&text),
            Err(why) => name.wrong(format!("fragment `{}`: {why}", name.text), None),
        }
    }
    let not_applicable = not_applicable
        .into_iter()
        .map(|(option, reason)| {
            if reason.text.trim().is_empty() {
                reason.wrong(format!("`{}` needs a reason", option.text), None);
            }
            (option.text.to_owned(), reason.text.to_owned())
        })
        .collect();
    Some(Entry {
        version: version.to_owned(),
        source: source?,
        fragment: joined,
        not_applicable,
        command_line: command_line?.text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalog_has_the_six_kernels() {
        let catalog = Catalog::load(None).unwrap();
        assert_eq!(catalog.versions(), ["6.18.15", "6.19.14", "7.0.13", "7.1.13", "7.2.12", "7.3.4"]);
        assert!(catalog.entries().iter().all(|entry| entry.fragment.contains("CONFIG_LIVEUPDATE=y")));
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        let text = "[kernel.a]\ndebian = \"x\"\nsha256 = \"12\"\nbase = \"defconfig\"\nfragments = [\"no.config\"]\n\
                    [kernel.b]\ntarball = \"u\"\nbase = \"allnoconfig\"\ncommand_line = \"\"\nsha = \"\"\n";
        let told = Catalog::read("c.toml", text, &|_| Err("missing".into()), false).unwrap_err().to_string();
        for line in [
            "c.toml:1:1: `command_line` is missing",
            "c.toml:2:10: `debian` must be PACKAGE_VERSION",
            "c.toml:3:10: `sha256` must be 64 hexadecimal digits",
            "c.toml:4:8: unknown base `defconfig`",
            "c.toml:5:14: fragment `no.config`: missing",
            "c.toml:6:1: `sha256` is missing",
            "c.toml:10:1: unknown key `sha`",
        ] {
            assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
        }
    }
}
