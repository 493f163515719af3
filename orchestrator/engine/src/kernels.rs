//! The kernels that cells need: from the store, built if necessary.

use crate::build_thread;
use crate::context::Context;
use crate::error::EngineError;
use crate::host::cache_folder;
use crate::request::KernelSource;
use luqual_kernels::{Catalog, Entry, Kernel, Store};
use luqual_model::{CellKey, Version};
use luqual_runner::BootKernel;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Opens this user's store with the requested catalog.
pub fn open_store(source: &KernelSource) -> Result<Store, EngineError> {
    store_with(source, [])
}

/// Opens the store with further kernels besides those of the catalog.
pub(crate) fn store_with(
    source: &KernelSource,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<Store, EngineError> {
    let catalog = Catalog::load(source.catalog.as_deref())?.with(entries);
    Ok(Store::new(cache_folder(), catalog, source.debian_mirror.clone()))
}

/// The kernel that `spec` names, which is built if necessary.
pub async fn build_kernel(context: &Context<'_>, store: &Store, spec: &str) -> Result<Kernel, EngineError> {
    context.unless_interrupted(build_thread::resolve(store, spec, &context.building())).await
}

/// The kernels of these cells, by name. Missing kernels are built, the newest first.
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

/// The kernels of these cells in the store, and the names of the others, in build order. Kernels are built here until
/// a first cell can run, so that a kernel that cannot be built at all is reported before the run begins.
pub(crate) async fn first_kernels(
    context: &Context<'_>,
    store: &Store,
    cells: &[CellKey],
) -> Result<(BTreeMap<String, Kernel>, VecDeque<String>), EngineError> {
    let (mut kernels, mut missing) = (BTreeMap::new(), VecDeque::new());
    for name in newest_first(cells.iter()) {
        match store.find(name)? {
            Some(kernel) => drop(kernels.insert(name.to_owned(), kernel)),
            None => missing.push_back(name.to_owned()),
        }
    }
    let can_run = |kernels: &BTreeMap<String, Kernel>| {
        cells.iter().any(|key| kernels.contains_key(&key.source) && kernels.contains_key(&key.target))
    };
    while !can_run(&kernels)
        && let Some(name) = missing.pop_front()
    {
        let kernel = build_kernel(context, store, &name).await?;
        kernels.insert(name, kernel);
    }
    Ok((kernels, missing))
}

/// The names of the cells' kernels, once each: the newest of the catalog first, since most users ask about it. Names
/// without a version, such as paths, come before; they are quickly checked, and may be wrong.
fn newest_first<'a>(cells: impl Iterator<Item = &'a CellKey>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = cells.flat_map(|key| [key.source.as_str(), key.target.as_str()]).collect();
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by_key(|name| Version::of(name).map(Reverse));
    names
}

/// The part of a kernel that the runner needs.
pub(crate) fn bootable(Kernel { info, image, map, modules, .. }: Kernel) -> BootKernel {
    BootKernel { info, image, symbols: map, modules }
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
