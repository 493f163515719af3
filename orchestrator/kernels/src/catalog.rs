//! `kernels/catalog.toml`: the kernels that can be built by name, and their sources.

use crate::base::Base;
use crate::debian::{DebianPackage, sha256_of};
use crate::error::KernelError;
use crate::patches::Series;
use crate::same_as::{Same, Written, resolve};
use luqual_config::document::{self, Table};
use luqual_model::Version;
use luqual_model::bounds::TEXT_FILE;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const EMBEDDED: &str = include_str!("../../../kernels/catalog.toml");
const EMBEDDED_FRAGMENTS: [(&str, &str); 6] = [
    ("debian.config", include_str!("../../../kernels/config/debian.config")),
    ("required.config", include_str!("../../../kernels/config/required.config")),
    ("debug.config", include_str!("../../../kernels/config/debug.config")),
    ("modular.config", include_str!("../../../kernels/config/modular.config")),
    ("luqual.config", include_str!("../../../kernels/config/luqual.config")),
    ("no-memfd.config", include_str!("../../../kernels/config/no-memfd.config")),
];

const EMBEDDED_PATCHES: [(&str, &[(&str, &str)]); 2] = [
    (
        "patches/7.1.3",
        &[(
            "list_lru-export-once.patch",
            include_str!("../../../kernels/patches/7.1.3/0001-list_lru-export-once.patch"),
        )],
    ),
    (
        "patches/7.3.4-bus-master",
        &[(
            "PCI-leave-bus-mastering-on-for-VFIO.patch",
            include_str!("../../../kernels/patches/7.3.4-bus-master/0001-PCI-leave-bus-mastering-on-for-VFIO.patch"),
        )],
    ),
];

/// All entries, in the order of their versions in the file.
#[derive(Clone, Debug)]
pub struct Catalog {
    entries: Vec<Entry>,
    is_own: bool,
}

/// One kernel that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, such as 7.3.4 or 7.3.4-mine.
    pub version: String,
    /// The name of the entry whose kernel it is: its own, or another's with another command line.
    pub built_as: String,
    /// The source.
    pub source: Source,
    /// The patches for the source, if any.
    pub patches: Option<Series>,
    /// The base of the configuration.
    pub base: Base,
    /// All configuration fragments, joined; they are applied over the base.
    pub fragment: String,
    /// Options that the fragments request and this kernel does not have, each with the reason.
    pub not_applicable: BTreeMap<String, String>,
    /// The kernel's command line.
    pub command_line: String,
}

impl Entry {
    /// Whether it is an unmodified release with the common configuration.
    pub fn is_plain(&self) -> bool {
        self.base == Base::AllNo && self.version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    }

    /// The origin of the kernel, in one line.
    pub fn provenance(&self) -> String {
        let base = match &self.base {
            Base::AllNo => String::new(),
            Base::Whole(whole) => format!("; configuration {whole}"),
        };
        let patches = self.patches.as_ref().map_or_else(String::new, |it| format!("; patches of {}", it.provenance()));
        format!("{}{base}{patches}", self.source.provenance())
    }
}

/// The source of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A package with a source, such as `linux-source-7.3`.
    Debian(DebianPackage),
    /// A tarball.
    Tarball {
        /// The URL.
        url: String,
        /// The digest of the tarball.
        sha256: String,
    },
    /// A source tree on this machine, copied before it is built.
    Tree(PathBuf),
    /// A commit of a git tree on this machine.
    Commit {
        /// The tree.
        tree: PathBuf,
        /// The full id of the commit.
        id: String,
        /// Its version from its Makefile; empty if that cannot be read.
        release: String,
    },
}

impl Source {
    /// The origin of the source, in one line.
    pub fn provenance(&self) -> String {
        match self {
            Self::Debian(package) => package.to_string(),
            Self::Tarball { url, sha256 } => format!("{url}, sha256 {sha256}"),
            Self::Tree(path) => format!("source tree {}", path.display()),
            Self::Commit { tree, id, .. } => format!("git {} {id}", tree.display()),
        }
    }
}

impl Catalog {
    /// Loads luqual's own catalog, or the one in `file`, whose fragments and configurations are in `config/` beside
    /// it.
    pub fn load(file: Option<&Path>) -> Result<Self, KernelError> {
        let Some(path) = file else {
            let fragment =
                |name: &str| own_fragment(name).ok_or_else(|| "luqual has no file of that name of its own".to_owned());
            let beside = Beside { config: &fragment, folder: Path::new(""), own: &EMBEDDED_PATCHES };
            return Self::read("kernels/catalog.toml", EMBEDDED, &beside, true);
        };
        let text = luqual_files::read_text(path, TEXT_FILE).map_err(KernelError::named(path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let fragment = |name: &str| {
            let path = folder.join("config").join(name);
            match (luqual_files::read_text(&path, TEXT_FILE), own_fragment(name)) {
                (Ok(text), _) => Ok(text),
                (Err(error), Some(own)) if error.kind() == ErrorKind::NotFound => Ok(own),
                (Err(error), _) => Err(format!("{}: {error}", path.display())),
            }
        };
        Self::read(&path.display().to_string(), &text, &Beside { config: &fragment, folder, own: &[] }, false)
    }

    fn read(file: &str, text: &str, beside: &Beside<'_>, is_own: bool) -> Result<Self, KernelError> {
        let entries = document::read(file, text, |table| {
            let entries = table.named("kernel", |name, table| {
                if Version::of(name.text).is_none() {
                    let hint =
                        "begin the name with a version, such as 7.3.4-mine: filters and expectations compare versions";
                    name.wrong(format!("`{}` does not begin with a version", name.text), Some(hint.to_owned()));
                }
                match table.text("same_as") {
                    Some(same_as) => Some(Written::Same(Same::read(name, same_as, table))),
                    None => entry(name.text, table, beside).map(|entry| Written::Built(Box::new(entry))),
                }
            });
            resolve(entries?)
        })?;
        Ok(Self { entries, is_own })
    }

    /// Whether it is luqual's own catalog.
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

    /// Adds entries, except those whose name exists already.
    #[must_use]
    pub fn with(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        for entry in entries {
            if self.find(&entry.version).is_none() {
                self.entries.push(entry);
            }
        }
        self
    }

    /// The entry of that name.
    pub fn find(&self, version: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.version == version)
    }
}

/// A fragment of luqual's own.
fn own_fragment(name: &str) -> Option<String> {
    EMBEDDED_FRAGMENTS.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
}

/// The files that belong to a catalog.
struct Beside<'a> {
    /// Reads a fragment or a configuration by its name.
    config: &'a dyn Fn(&str) -> Result<String, String>,
    /// The folder that relative paths start from.
    folder: &'a Path,
    /// luqual's own patch series, by the path in the catalog.
    own: &'a [(&'static str, &'static [(&'static str, &'static str)])],
}

fn entry(version: &str, table: &Table<'_>, beside: &Beside<'_>) -> Option<Entry> {
    let (debian, tarball, tree) = (table.text("debian"), table.text("tarball"), table.text("tree"));
    let sha256 = table.text("sha256");
    let base = Base::read(table, beside.config);
    let patches = patches(table, beside);
    let fragments = table.texts("fragments");
    let command_line = table.needed_text("command_line");
    let not_applicable = table.table("not_applicable", |table| Some(table.all_texts())).unwrap_or_default();

    let checked = sha256.as_ref().and_then(sha256_of);
    let digest = || {
        if sha256.is_none() {
            table.wrong(
                "`sha256` is missing",
                Some("add the sha256 of the file; luqual verifies downloads only by it".to_owned()),
            );
        }
        checked.clone()
    };
    let source = match (debian, tarball, tree) {
        (Some(debian), None, None) => {
            DebianPackage::read(&debian, digest(), "linux-source-7.3_7.3.4-1").map(Source::Debian)
        }
        (None, Some(tarball), None) => digest().map(|sha256| Source::Tarball { url: tarball.text.to_owned(), sha256 }),
        (None, None, Some(tree)) => Some(Source::Tree(tree.text.into())),
        _ => {
            table.wrong(
                format!("kernel `{version}` needs exactly one source"),
                Some("give one of debian, tarball and tree".to_owned()),
            );
            None
        }
    };
    let mut joined = String::new();
    for name in &fragments {
        match (beside.config)(name.text) {
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
        built_as: version.to_owned(),
        source: source?,
        patches,
        base: base?,
        fragment: joined,
        not_applicable,
        command_line: command_line?.text.to_owned(),
    })
}

/// Parses `patches = "FOLDER or MBOX"` or `patches = { git = "REPOSITORY", range = "FROM..TO" }`. The patches are
/// read when the kernel is requested.
fn patches(table: &Table<'_>, beside: &Beside<'_>) -> Option<Series> {
    let folder = beside.folder;
    if table.has_text("patches") {
        let text = table.text("patches")?;
        if let Some((_, files)) = beside.own.iter().find(|(path, _)| *path == text.text) {
            return Some(Series::Own(files));
        }
        let path = folder.join(text.text);
        if !path.exists() {
            let hint = "name a folder of *.patch files or an mbox, relative to the catalog";
            text.wrong(format!("`patches`: there is no {}", path.display()), Some(hint.to_owned()));
        }
        return Some(Series::Path(path));
    }
    table.table("patches", |table| {
        let (git, range) = (table.needed_text("git"), table.needed_text("range"));
        let (git, range) = (git?, range?);
        let repository = folder.join(git.text);
        if !repository.is_dir() {
            let hint = "name a git repository on this machine, relative to the catalog; luqual does not clone it";
            git.wrong(format!("`git`: there is no folder {}", repository.display()), Some(hint.to_owned()));
        }
        let is_range = range.text.contains("..") && !range.text.contains("...") && !range.text.starts_with('-');
        if !is_range {
            range.wrong(
                format!("`{}` is not a range of commits", range.text),
                Some("write it as BASE..TIP, such as v7.3.4..mine".to_owned()),
            );
        }
        Some(Series::Branch { repository, range: range.text.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Origin, Whole};
    use std::collections::BTreeSet;

    fn read(text: &str, folder: &Path) -> Result<Catalog, KernelError> {
        let config = |name: &str| match name {
            "luqual.config" => Ok("CONFIG_A=y\n".to_owned()),
            "debian.config" => Ok("CONFIG_B=m\n".to_owned()),
            _ => Err("missing".to_owned()),
        };
        Catalog::read("c.toml", text, &Beside { config: &config, folder, own: &[] }, false)
    }

    const REST: &str = "fragments = [\"luqual.config\"]\ncommand_line = \"\"\n";

    #[test]
    fn a_base_is_a_file_and_patches_have_two_forms() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("series")).unwrap();
        let text = format!(
            "[kernel.\"7.3.4-mine\"]\ntree = \"/t\"\nbase = \"debian.config\"\npatches = \"series\"\n{REST}\
             [kernel.\"7.3.4-n\"]\ntree = \"/t\"\nbase = \"allnoconfig\"\npatches = {{ git = \"series\", range = \"v1..b\" }}\n{REST}\
             [kernel.\"7.3.4-o\"]\ntree = \"/t\"\nbase = \"allnoconfig\"\n{REST}"
        );
        let catalog = read(&text, folder.path()).unwrap();
        let (series, entries) = (folder.path().join("series"), catalog.entries());
        let from = Origin::File("CONFIG_B=m\n".into());
        assert_eq!(entries[0].base, Base::Whole(Whole { name: "debian.config".into(), from, modules: Vec::new() }));
        assert_eq!(entries[0].patches, Some(Series::Path(series.clone())));
        assert_eq!(
            entries[0].provenance(),
            format!("source tree /t; configuration debian.config; patches of {}", series.display())
        );
        assert_eq!(entries[1].patches, Some(Series::Branch { repository: series, range: "v1..b".into() }));
        assert_eq!((&entries[2].base, &entries[2].patches), (&Base::AllNo, &None));
        assert_eq!(entries[2].provenance(), "source tree /t");
    }

    #[test]
    fn a_base_can_be_in_a_package_and_have_few_of_its_modules() {
        let base = |digest: &str| {
            format!("base = {{ debian = \"linux-config-7.3_7.3.4-1\", file = \"config.x.xz\", sha256 = \"{digest}\" }}")
        };
        let text = |base: &str| {
            format!("[kernel.\"7.3.4-d\"]\ntree = \"/t\"\nmodules = [\"virtio-net\", \"zram\"]\n{base}\n{REST}")
        };
        let catalog = read(&text(&base(&"Ab".repeat(32))), Path::new("")).unwrap();
        let from = Origin::Debian(DebianPackage {
            name: "linux-config-7.3".into(),
            version: "7.3.4-1".into(),
            sha256: "ab".repeat(32),
        });
        let modules = ["virtio_net", "zram"].map(str::to_owned).to_vec();
        assert_eq!(catalog.entries()[0].base, Base::Whole(Whole { name: "config.x.xz".into(), from, modules }));
        for (base, told) in [
            (base("12"), "`sha256` must be 64 hexadecimal digits"),
            ("base = { debian = \"x\" }".to_owned(), "`file` is missing"),
            (base(&"ab".repeat(32)).replace("7.3_7", "7"), "`debian` must be PACKAGE_VERSION"),
            ("base = \"allnoconfig\"".to_owned(), "`modules` chooses among those of a whole configuration"),
            (String::new(), "`base` is missing"),
        ] {
            let error = read(&text(&base), Path::new("")).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_is_required_turns_nothing_off_and_is_what_the_small_kernels_have() {
        let of = |name: &str| -> BTreeSet<String> {
            own_fragment(name).unwrap().lines().filter(|line| line.starts_with("CONFIG_")).map(str::to_owned).collect()
        };
        let required = of("required.config");
        assert!(required.len() > 20 && required.is_subset(&of("luqual.config")), "{required:?}");
        assert!(required.iter().all(|line| line.ends_with("=y")));
    }

    #[test]
    fn a_catalog_of_ones_own_has_luquals_fragments() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.toml");
        let entry = |fragment: &str| {
            let text = format!(
                "[kernel.\"7.3.4-mine\"]\ntree = \"/t\"\nbase = \"allnoconfig\"\nfragments = [\"{fragment}\"]\ncommand_line = \"\"\n"
            );
            std::fs::write(&file, text).unwrap();
            Catalog::load(Some(&file)).map(|catalog| catalog.entries()[0].fragment.clone()).map_err(|it| it.to_string())
        };
        assert_eq!(entry("required.config").unwrap(), own_fragment("required.config").unwrap());
        assert!(entry("none.config").unwrap_err().contains("config/none.config: No such file"));
        // One's own comes first.
        std::fs::create_dir(folder.path().join("config")).unwrap();
        std::fs::write(folder.path().join("config/required.config"), "CONFIG_A=y\n").unwrap();
        assert_eq!(entry("required.config").unwrap(), "CONFIG_A=y\n");
    }

    #[test]
    fn mistakes_in_patches_are_told_with_their_places() {
        let head = "tree = \"/t\"\nbase = \"allnoconfig\"\n";
        let text = format!(
            "[kernel.a]\n{head}patches = \"none\"\n{REST}\
             [kernel.b]\n{head}patches = {{ git = \"https://x/y\", range = \"mine\" }}\n{REST}\
             [kernel.c]\n{head}patches = {{ range = \"--output=x..y\", branch = \"z\", git = \"/\" }}\n{REST}\
             [kernel.d]\n{head}patches = {{ git = \"/\" }}\n{REST}\
             [kernel.e]\n{head}patches = 7\n{REST}"
        );
        let told = read(&text, Path::new("/nowhere")).unwrap_err().to_string();
        for line in [
            "c.toml:4:11: `patches`: there is no /nowhere/none",
            "c.toml:10:19: `git`: there is no folder /nowhere/https://x/y",
            "c.toml:10:42: `mine` is not a range of commits",
            "c.toml:16:21: `--output=x..y` is not a range of commits",
            "c.toml:16:38: unknown key `branch`",
            "c.toml:22:11: `range` is missing",
            "c.toml:28:11: `patches` must be a table, not a number",
        ] {
            assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
        }
    }

    #[test]
    fn a_name_begins_with_a_version() {
        let source = format!("debian = \"linux-source-7.3_7.3.4-1~bpo13+1\"\nsha256 = \"{}\"", "ab".repeat(32));
        let named = |name: &str| {
            let text = format!("[kernel.\"{name}\"]\n{source}\nbase = \"allnoconfig\"\n{REST}");
            read(&text, Path::new("")).map(|catalog| catalog.versions().len())
        };
        assert_eq!(named("7.3.4-mine").unwrap(), 1);
        let told = named("mine").unwrap_err().to_string();
        assert!(told.contains("c.toml:1:9: `mine` does not begin with a version\n  hint: begin the name"), "{told}");
    }

    #[test]
    fn the_embedded_catalog_has_the_first_and_the_last_release_of_each_series() {
        let catalog = Catalog::load(None).unwrap();
        let known = [
            "6.18.15",
            "6.19.6",
            "6.19.14",
            "7.0.4",
            "7.0.13",
            "7.1.3",
            "7.1.13",
            "7.2.6",
            "7.2.12",
            "7.2.12-debian",
            "7.3.4",
            "7.3.4-bus-master",
            "7.3.4-debian",
            "7.3.4-debug",
            "7.3.4-modular",
            "7.3.4-no-memfd",
        ];
        let built = catalog.entries().iter().filter(|entry| entry.version == entry.built_as);
        assert_eq!(built.map(|entry| entry.version.as_str()).collect::<BTreeSet<_>>(), BTreeSet::from(known));
        assert!(matches!(catalog.find("7.1.3").unwrap().patches, Some(Series::Own(_))));
        assert!(catalog.entries().iter().all(|entry| entry.fragment.contains("CONFIG_LIVEUPDATE=y")));
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        let text = "[kernel.a]\ndebian = \"x\"\nsha256 = \"12\"\nbase = \"defconfig\"\nfragments = [\"no.config\"]\n\
                    [kernel.b]\ntarball = \"u\"\nbase = \"allnoconfig\"\ncommand_line = \"\"\nsha = \"\"\n";
        let told = read(text, Path::new("")).unwrap_err().to_string();
        for line in [
            "c.toml:1:1: `command_line` is missing",
            "c.toml:2:10: `debian` must be PACKAGE_VERSION",
            "c.toml:3:10: `sha256` must be 64 hexadecimal digits",
            "c.toml:4:8: base `defconfig`: missing",
            "c.toml:5:14: fragment `no.config`: missing",
            "c.toml:6:1: `sha256` is missing",
            "c.toml:10:1: unknown key `sha`",
        ] {
            assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
        }
    }
}
