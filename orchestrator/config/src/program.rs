//! `[program.NAME]`: external programs that a matrix file adds as workloads.

use crate::document::{Table, Text};
use crate::names::{KnownNames, unknown};
use luqual_protocol::EXTERNAL;
use std::path::{Path, PathBuf};

/// A static program with two stages: `-s 1` runs in the source and `-s 2` in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The name of the workload, `external.NAME`.
    pub workload: String,
    /// Where the file comes from.
    pub origin: Origin,
    /// What the program asserts, in one sentence.
    pub asserts: String,
    /// Whether other workloads may run in the same boot.
    pub shares_boot: bool,
}

/// Where a program's file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    Path(PathBuf),
    /// A selftest of a kernel, built from that kernel's source.
    Selftest {
        /// Its name in tools/testing/selftests/liveupdate.
        program: String,
        /// The kernel's name in the catalog.
        version: String,
    },
}

/// The longest name that fits into the name of a session.
const LONGEST: usize = 32;

/// Reads all programs of a file. None if one of them is wrong, which is reported.
pub(crate) fn read(file: &str, table: &Table<'_>, known: &KnownNames<'_>) -> Option<Vec<Program>> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    table.named("program", |name, table| {
        let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let is_right = !name.text.is_empty() && name.text.len() <= LONGEST && name.text.chars().all(is_plain);
        if !is_right {
            let hint = format!("use up to {LONGEST} lower-case letters, digits and `-`");
            name.wrong(format!("`{}` is not a valid name of a program", name.text), Some(hint));
        }
        let origin = origin(table, folder, known);
        let asserts = table.text("asserts").map(|text| text.text.to_owned());
        let shares_boot = table.flag("shares_boot");
        Some(Program {
            workload: format!("{EXTERNAL}{}", name.text),
            origin: origin.filter(|_| is_right)?,
            asserts: asserts
                .unwrap_or_else(|| "the program passes in both of its stages, as it says itself".to_owned()),
            shares_boot,
        })
    })
}

fn origin(table: &Table<'_>, folder: &Path, known: &KnownNames<'_>) -> Option<Origin> {
    let (path, selftest, version) = (table.text("path"), table.text("selftest"), table.text("version"));
    let is_known = |version: &Text<'_>| {
        let is_known = known.kernels.contains(&version.text);
        if !is_known {
            unknown(version, "kernel", known.kernels, "");
        }
        is_known
    };
    match (path, selftest, version) {
        (Some(path), None, None) => Some(Origin::Path(folder.join(path.text))),
        (None, Some(program), Some(version)) => is_known(&version)
            .then(|| Origin::Selftest { program: program.text.to_owned(), version: version.text.to_owned() }),
        _ => {
            let hint = "write path = \"FILE\", or selftest = \"NAME\" and version = \"KERNEL\"".to_owned();
            table.wrong("a program needs either `path`, or `selftest` and `version`", Some(hint));
            None
        }
    }
}
