//! A kernel's own programs for live update, built from its source. They stay in the store: nothing of them is luqual's.

use crate::build::{Make, source};
use crate::catalog::Entry;
use crate::error::KernelError;
use crate::progress::BuildProgress;
use crate::recipe::Recipe;
use crate::store::{Kind, Store, put};
use crate::workplace::Workplace;
use luqual_model::ARCH;
use object::Endianness;
use object::elf::{ET_DYN, ET_EXEC, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use std::fs;
use std::path::PathBuf;

/// Where they are in the kernel's source.
const FOLDER: &str = "tools/testing/selftests/liveupdate";

/// The programs of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selftests {
    /// Where they are.
    pub folder: PathBuf,
    /// Their names, in order.
    pub programs: Vec<String>,
}

impl Selftests {
    /// What one of them is called where it comes from.
    pub fn origin(program: &str, version: &str) -> String {
        format!("{FOLDER}/{program}.c of {version}")
    }

    fn read(folder: PathBuf) -> Option<Self> {
        let is_program = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| not_a_program(&bytes).is_none());
        let paths = fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.path()).filter(is_program);
        let mut programs: Vec<String> =
            paths.filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned())).collect();
        programs.sort();
        Some(Self { folder, programs }).filter(|selftests| !selftests.programs.is_empty())
    }
}

impl Store {
    /// The programs of an entry, if they are built.
    pub fn selftests(&self, entry: &Entry) -> Result<Option<Selftests>, KernelError> {
        Ok(Selftests::read(self.folder(Kind::Selftests, &Recipe::read(entry)?)?))
    }

    /// The programs of an entry, built if need be.
    pub async fn build_selftests(&self, entry: &Entry, progress: &dyn BuildProgress) -> Result<Selftests, KernelError> {
        let recipe = Recipe::read(entry)?;
        let folder = self.folder(Kind::Selftests, &recipe)?;
        let _lock = self.lock(&folder, &format!("the selftests of {}", entry.version), progress).await?;
        if let Some(selftests) = Selftests::read(folder.clone()) {
            return Ok(selftests);
        }
        let work = Workplace::for_build(&self.place(Kind::Selftests))?;
        let fetched = self.fetch(entry, progress).await?;
        let tree = source(&recipe, &fetched, work.path(), progress).await?;
        if !tree.join(FOLDER).exists() {
            return Err(KernelError::NoSelftests { version: entry.version.clone(), folder: FOLDER });
        }
        let log = self.log(Kind::Selftests, &folder);
        let output = work.path().join("programs");
        fs::create_dir(&output).map_err(KernelError::file(&output))?;
        progress.start(&format!("compiling the selftests of {}", entry.version), None);
        let mut make = Make::new(entry, &tree, &log)?;
        // The programs are compiled with the headers of their own kernel.
        make.run(&["headers"], &[], &mut |_| {}).await?;
        make.run(&["-C", FOLDER, "LDFLAGS=-static", &format!("OUTPUT={}", output.display())], &[], &mut |_| {}).await?;
        progress.end();
        put(&output, &log, &folder)?;
        Selftests::read(folder.clone())
            .ok_or_else(|| KernelError::Unexpected { path: folder, why: "no static program came out of it".to_owned() })
    }
}

/// Why these bytes cannot run in a guest, where there is nothing but the kernel; `None` if they can.
pub fn not_a_program(bytes: &[u8]) -> Option<String> {
    let read = || -> object::read::Result<Option<String>> {
        let header = FileHeader64::<Endianness>::parse(bytes)?;
        let endian = header.endian()?;
        if header.e_machine(endian).0 != ARCH.elf_machine {
            return Ok(Some(format!("it is for another processor than {}", ARCH.name)));
        }
        if ![ET_EXEC, ET_DYN].contains(&header.e_type(endian)) {
            return Ok(Some("it is an object, not a program".to_owned()));
        }
        let mut segments = header.program_headers(endian, bytes)?.iter();
        let is_dynamic = segments.any(|segment| segment.p_type(endian) == PT_INTERP);
        let told = "it needs a dynamic loader, which a guest does not have: link it with -static";
        Ok(is_dynamic.then(|| told.to_owned()))
    };
    match read() {
        Ok(why) => why,
        Err(_) if bytes.starts_with(b"#!") => Some("it is a script, and a guest has no interpreter".to_owned()),
        Err(error) => Some(format!("it is not a 64-bit ELF program: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_alone_is_no_program() {
        // The test itself is linked dynamically.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(not_a_program(&own).unwrap().contains("-static"));
        assert!(not_a_program(b"#!/bin/sh\n").unwrap().contains("script"));
        assert!(not_a_program(b"").unwrap().contains("not a 64-bit ELF"));
        let mut other = own.clone();
        other[18] = 183;
        assert!(not_a_program(&other).unwrap().contains("another processor"));
        assert!(not_a_program(&own[..70]).is_some(), "cut off");
    }

    #[test]
    fn only_programs_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Selftests::read(folder.path().to_owned()), None);
        fs::write(folder.path().join("build.log"), "make: done").unwrap();
        assert_eq!(Selftests::read(folder.path().to_owned()), None);
    }
}
