//! The engine can be read bottom-up: `lib.rs` lists its modules so, and each uses only those above it in the list.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each source file of a folder, with the module of the crate that it belongs to.
fn files(folder: &Path, module: Option<&str>, found: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = module.unwrap_or(&name).to_owned();
        if path.is_dir() {
            files(&path, Some(&module), found);
        } else if path.extension().is_some_and(|it| it == "rs") && module != "lib" {
            found.push((module, path));
        }
    }
}

#[test]
fn a_module_uses_only_those_that_are_listed_before_it() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let list = fs::read_to_string(sources.join("lib.rs")).unwrap();
    let order: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let place = |module: &str| order.iter().position(|it| *it == module);
    let mut found = Vec::new();
    files(&sources, None, &mut found);
    assert!(order.len() > 20 && found.len() >= order.len(), "{order:?}");
    for (module, path) in found {
        let text = fs::read_to_string(&path).unwrap();
        for used in text.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let is_below = used == module || place(&used).is_none_or(|used| Some(used) < place(&module));
            assert!(is_below, "{} uses {used}, which is listed after it", path.display());
        }
    }
}
