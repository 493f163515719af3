//! `[program.NAME]`: programs of other people that a matrix file brings as workloads.

use crate::document::{Table, Text};
use crate::matrix::{Known, unknown};
use luqual_protocol::EXTERNAL;
use std::path::{Path, PathBuf};

/// A static program of two stages: `-s 1` is run in the source and `-s 2` in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its workload's name, `external.NAME`.
    pub workload: String,
    /// Where its file comes from.
    pub origin: Origin,
    /// What it asserts, in one sentence.
    pub asserts: String,
    /// Whether others may run beside it in one boot.
    pub shares_boot: bool,
}

/// Where a program's file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    Path(PathBuf),
    /// One of a kernel's own, which is built from that kernel's source.
    Selftest {
        /// Its name in tools/testing/selftests/liveupdate.
        program: String,
        /// The kernel, by its name in the catalog.
        version: String,
    },
}

/// Longer names do not fit into that of a session.
const LONGEST: usize = 32;

/// Reads all of a file. None if one of them is wrong, which is told.
pub(crate) fn read(file: &str, table: &Table<'_>, known: &Known<'_>) -> Option<Vec<Program>> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    table.named("program", |name, table| {
        let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let is_right = !name.text.is_empty() && name.text.len() <= LONGEST && name.text.chars().all(is_plain);
        if !is_right {
            let hint = format!("up to {LONGEST} lower-case letters, digits and `-`");
            name.wrong(format!("`{}` is no name for a program", name.text), Some(hint));
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

fn origin(table: &Table<'_>, folder: &Path, known: &Known<'_>) -> Option<Origin> {
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
            let hint = "path = \"FILE\", or selftest = \"NAME\" and version = \"KERNEL\"".to_owned();
            table.wrong("a program has either a path or a selftest with its version", Some(hint));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix;

    const KNOWN: Known<'_> = Known { kernels: &["7.3.4"], workloads: &["memfd.basic"], profiles: &["q35-intel"] };

    #[test]
    fn a_program_is_a_workload_of_its_file() {
        let text = "[matrix.a]\nkernels = [\"7.3.4\"]\npairs = \"all\"\nworkloads = [\"external.*\", \"external.mine\"]\n\
                    [program.mine]\npath = \"build/mine\"\nasserts = \"all is well\"\nshares_boot = true\n\
                    [program.theirs]\nselftest = \"luo_kexec_simple\"\nversion = \"7.3.4\"\n\
                    [[expect]]\nsource = \"7.3.4\"\ntarget = \"7.3.4\"\nworkload = \"external.theirs\"\n\
                    outcome = \"lost\"\nreason = \"x\"\n";
        let read = matrix::read("some/m.toml", text, &KNOWN).unwrap_or_else(|error| panic!("{error}"));
        let origins: Vec<(&str, &Origin, bool)> =
            read.programs.iter().map(|it| (it.workload.as_str(), &it.origin, it.shares_boot)).collect();
        let theirs = Origin::Selftest { program: "luo_kexec_simple".into(), version: "7.3.4".into() };
        assert_eq!(
            origins,
            [("external.mine", &Origin::Path("some/build/mine".into()), true), ("external.theirs", &theirs, false)]
        );
        assert_eq!(read.programs[0].asserts, "all is well");
    }

    #[test]
    fn mistakes_in_programs_are_told() {
        let text = "[program.Mine]\npath = \"x\"\n[program.a]\npath = \"x\"\nselftest = \"y\"\nversion = \"7.3.4\"\n\
                    [program.b]\nselftest = \"y\"\nversion = \"7.3.44\"\n[program.c]\nselftest = \"y\"\n\
                    [program.d]\npath = \"x\"\nshare_boot = true\n";
        let told = matrix::read("m.toml", text, &KNOWN).unwrap_err().to_string();
        for line in [
            "m.toml:1:10: `Mine` is no name for a program\n  hint: up to 32 lower-case",
            "m.toml:3:1: a program has either a path or a selftest with its version\n  hint: path =",
            "m.toml:9:11: unknown kernel `7.3.44`\n  hint: is `7.3.4` meant?",
            "m.toml:10:1: a program has either",
            "m.toml:14:1: unknown key `share_boot`\n  hint: is `shares_boot` meant?",
        ] {
            assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
        }
    }
}
