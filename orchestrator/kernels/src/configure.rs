//! The configuration of a tree, before it is built.

use crate::base::{Base, Whole};
use crate::build::Make;
use crate::catalog::Entry;
use crate::config::{self, KernelConfig};
use crate::error::KernelError;
use std::fs;
use std::path::Path;

/// The whole configuration that a kernel's own started from: its file in the tree, and in the store.
pub(crate) const BASE: &str = "base.config";

/// The kernel's own configuration with all modules, where only some of them are built.
pub(crate) const WITH_ALL_MODULES: &str = "all-modules.config";

/// Configures a tree by its entry, and checks the result. `base` is the whole configuration that it starts from.
pub(crate) async fn configure(
    make: &mut Make<'_>,
    entry: &Entry,
    base: Option<&str>,
    folder: &Path,
) -> Result<KernelConfig, KernelError> {
    let write = |path: &Path, text: &str| fs::write(path, text).map_err(KernelError::file(path));
    let result = make.tree.join(".config");
    match base {
        None => {
            let fragment = folder.join("fragment.config");
            write(&fragment, &entry.fragment)?;
            make.run(&["allnoconfig"], &[("KCONFIG_ALLCONFIG", fragment.as_os_str())], &mut |_| {}).await?;
        }
        Some(base) => {
            write(&make.tree.join(BASE), base)?;
            write(&result, &config::merged(base, &entry.fragment))?;
            make.run(&["olddefconfig"], &[], &mut |_| {}).await?;
        }
    }
    if let Base::Whole(Whole { modules, .. }) = &entry.base
        && !modules.is_empty()
    {
        let all = make.tree.join(WITH_ALL_MODULES);
        fs::copy(&result, &all).map_err(KernelError::file(&all))?;
        let loaded = folder.join("modules.loaded");
        write(&loaded, &lsmod(modules))?;
        // It asks for the value of options that are seen now; the input is empty, and it takes their defaults.
        make.run(&["localmodconfig"], &[("LSMOD", loaded.as_os_str())], &mut |_| {}).await?;
    }
    let text = fs::read_to_string(&result).map_err(KernelError::file(&result))?;
    let result = KernelConfig::parse(&text);
    config::check(entry, &base.map(KernelConfig::parse).unwrap_or_default(), &result)?;
    Ok(result)
}

/// The modules as lsmod prints them, for scripts/kconfig/streamline_config.pl.
fn lsmod(modules: &[String]) -> String {
    let line = |name: &String| format!("{name} 0 0\n");
    std::iter::once("Module Size Used by\n".to_owned()).chain(modules.iter().map(line)).collect()
}
