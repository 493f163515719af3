//! The kernels that cells need: from the store, built if need be.

use crate::context::Context;
use crate::error::EngineError;
use crate::host::cache_folder;
use crate::request::KernelSource;
use luqual_kernels::{Catalog, Entry, Kernel, Store};
use luqual_model::{CellKey, Version};
use luqual_runner::BootKernel;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The store of this user, with the catalog that is asked for.
pub fn open_store(source: &KernelSource) -> Result<Store, EngineError> {
    store_with(source, [])
}

/// The store, with these kernels besides those of the catalog.
pub(crate) fn store_with(
    source: &KernelSource,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<Store, EngineError> {
    let catalog = Catalog::load(source.catalog.as_deref())?.with(entries);
    Ok(Store::new(cache_folder(), catalog, source.debian_mirror.clone()))
}

/// The kernel that `spec` names, built if need be.
pub async fn build_kernel(context: &Context<'_>, store: &Store, spec: &str) -> Result<Kernel, EngineError> {
    context.unless_interrupted(store.resolve(spec, &context.building())).await
}

/// The kernels of these cells, by name. What is missing is built, the newest first.
pub(crate) async fn find_kernels(
    context: &Context<'_>,
    store: &Store,
    cells: impl Iterator<Item = &CellKey>,
) -> Result<BTreeMap<String, Kernel>, EngineError> {
    let mut kernels = BTreeMap::new();
    for name in newest_first(cells) {
        kernels.insert(name.to_owned(), build_kernel(context, store, name).await?);
    }
    Ok(kernels)
}

/// The names of the cells' kernels, once each: the newest of the catalog is the one that is most asked about. What has no version in
/// its name, such as a path, comes before: it is quickly looked at, and may be wrong.
fn newest_first<'a>(cells: impl Iterator<Item = &'a CellKey>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = cells.flat_map(|key| [key.source.as_str(), key.target.as_str()]).collect();
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by_key(|name| Version::of(name).map(Reverse));
    names
}

/// The runner is given no more of a kernel than it boots.
pub(crate) fn bootable(Kernel { info, image, .. }: Kernel) -> BootKernel {
    BootKernel { info, image }
}

pub(crate) fn all_bootable(kernels: BTreeMap<String, Kernel>) -> BTreeMap<String, BootKernel> {
    kernels.into_iter().map(|(name, kernel)| (name, bootable(kernel))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_built_first_and_a_path_is_looked_at_before() {
        let key = |source: &str, target: &str| {
            let [source, target, profile, workload] = [source, target, "p", "w.x"].map(str::to_owned);
            CellKey { source, target, profile, workload }
        };
        let cells = [key("7.2.12", "7.2.12"), key("7.2.12", "7.3.4"), key("./a", "7.3.4"), key("7.10.1", "7.2.6")];
        assert_eq!(newest_first(cells.iter()), ["./a", "7.10.1", "7.3.4", "7.2.12", "7.2.6"]);
    }
}
