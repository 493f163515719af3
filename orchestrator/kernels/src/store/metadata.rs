//! The description of a kernel in the store: `metadata.json` in its folder.

use crate::base::Base;
use crate::catalog::Entry;
use crate::config::KernelConfig;
use crate::configure::{BASE, WITH_ALL_MODULES};
use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::modules::Modules;
use crate::patches::Patch;
use crate::recipe::Recipe;
use crate::{image, lock, tools};
use luqual_files::digest;
use luqual_model::{ARCH, ConfigBase, KernelInfo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// The version of the description. It rises when other facts are read from a kernel; the facts are then read again.
const VERSION: u32 = 2;
const FILE: &str = "metadata.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Metadata {
    schema_version: u32,
    release: String,
    build_id: Option<String>,
    abi: Vec<String>,
    provenance: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    patches: Vec<luqual_model::Patch>,
    /// The whole configuration that its own started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    image_sha256: String,
    compiler: String,
    build_seconds: u64,
    /// The size of each file in bytes, by name.
    sizes: BTreeMap<String, u64>,
}

/// Writes the description of the kernel whose artifacts are in `folder`.
pub(super) fn write(
    recipe: &Recipe<'_>,
    folder: &Path,
    sizes: BTreeMap<String, u64>,
    started: Instant,
) -> Result<(), KernelError> {
    let (image_sha256, release, build_id, abi) = read_artifacts(folder)?;
    let metadata = Metadata {
        schema_version: VERSION,
        release,
        build_id,
        abi,
        provenance: recipe.entry.provenance(),
        base: match &recipe.entry.base {
            Base::AllNo => None,
            Base::Whole(whole) => Some(whole.to_string()),
        },
        patches: recipe.patches.iter().map(Patch::described).collect(),
        image_sha256,
        compiler: tools::compiler()?.1,
        build_seconds: started.elapsed().as_secs(),
        sizes,
    };
    let path = folder.join(FILE);
    let text = serde_json::to_vec_pretty(&metadata).map_err(|error| KernelError::file(&path)(error.into()))?;
    fs::write(&path, text).map_err(KernelError::file(&path))
}

/// The kernel in `folder`; `None` if it is missing or changed, and has to be built again.
pub(super) fn load(folder: &Path, entry: &Entry) -> Option<Kernel> {
    kernel(folder, read(folder)?, &entry.version, &entry.command_line)
}

/// The kernel in `folder`, if its image has that digest. It gets a name; its command line is not known.
pub(super) fn load_digest(folder: &Path, name: &str, image_sha256: &str) -> Option<Kernel> {
    let metadata = read(folder).filter(|metadata| metadata.image_sha256 == image_sha256)?;
    kernel(folder, metadata, name, "")
}

fn kernel(folder: &Path, metadata: Metadata, name: &str, command_line: &str) -> Option<Kernel> {
    let image = folder.join(ARCH.image.name);
    if digest::of_file(&image).ok()? != metadata.image_sha256 {
        return None;
    }
    let config = KernelConfig::parse(&fs::read_to_string(folder.join("config")).ok()?);
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok().map(|text| KernelConfig::parse(&text));
    let base = metadata.base.zip(read(BASE)).map(|(name, base)| {
        let all = read(WITH_ALL_MODULES);
        let not_built = all.as_ref().map_or(0, |all| all.modules() - config.modules());
        ConfigBase { name, changed: all.as_ref().unwrap_or(&config).differences(&base), not_built }
    });
    let installed = folder.join("lib/modules").join(&metadata.release);
    let modules = match installed.is_dir() {
        true => Modules::read(&installed, &metadata.release, Some(&config)).ok()?,
        false => Modules::default(),
    };
    let mut facts = BTreeMap::from([
        ("compiler".to_owned(), metadata.compiler),
        ("build time".to_owned(), format!("{} s", metadata.build_seconds)),
    ]);
    facts.extend(modules.facts());
    facts.extend(metadata.sizes.into_iter().map(|(name, size)| (format!("size of {name}"), format!("{size} bytes"))));
    let info = KernelInfo {
        name: name.to_owned(),
        release: metadata.release,
        build_id: metadata.build_id,
        image_sha256: metadata.image_sha256,
        provenance: metadata.provenance,
        abi: Some(metadata.abi),
        capabilities: Some(config.capabilities(&modules.names)),
        lacking: config.lacking("the configuration that it was built with", &modules.names),
        modules: modules.digests(),
        base,
        static_keys: Some(config.has_static_keys()),
        command_line: command_line.to_owned(),
        patches: metadata.patches,
        facts,
    };
    let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    Some(Kernel { info, image, symbols: there("vmlinux"), map: there("System.map"), modules: modules.in_order })
}

/// Reads the description. If an older luqual wrote it, the facts are read again, and written unless another process
/// writes in that folder; a reader that cannot write them reads them again the next time.
fn read(folder: &Path) -> Option<Metadata> {
    let known: Metadata = serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()?;
    if known.schema_version == VERSION {
        return Some(known);
    }
    let (image_sha256, release, build_id, abi) = read_artifacts(folder).ok()?;
    if image_sha256 != known.image_sha256 {
        return None;
    }
    let metadata = Metadata { schema_version: VERSION, release, build_id, abi, ..known };
    if let (Some(_lock), Ok(text)) = (lock::try_take(&lock::beside(folder)), serde_json::to_vec_pretty(&metadata)) {
        let beside = folder.join("metadata.new");
        let _ = fs::write(&beside, text).and_then(|()| fs::rename(&beside, folder.join(FILE)));
    }
    Some(metadata)
}

/// The image's digest and release, and the ELF's build id and ABI strings.
fn read_artifacts(folder: &Path) -> Result<(String, String, Option<String>, Vec<String>), KernelError> {
    let read = |name: &str| fs::read(folder.join(name)).map_err(KernelError::file(folder.join(name)));
    let (image, elf) = (read(ARCH.image.name)?, read("vmlinux")?);
    let facts = image::read(&image)
        .map_err(|error| KernelError::Unexpected { path: folder.join(ARCH.image.name), why: error.to_string() })?;
    Ok((digest::of_bytes(&image), facts.release, image::build_id(&elf), image::abi_strings(&elf)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::tests::entry;
    use std::path::PathBuf;

    fn patch() -> Patch {
        Patch { subject: "a: change".into(), diff: "b".into() }
    }

    /// A folder as a build leaves it.
    fn stored(root: &Path) -> PathBuf {
        let folder = root.join("kernel");
        fs::create_dir(&folder).unwrap();
        let image = crate::image::tests::image(&crate::image::tests::elf());
        fs::write(folder.join("bzImage"), &image).unwrap();
        fs::write(folder.join("vmlinux"), crate::image::tests::elf()).unwrap();
        fs::write(folder.join("config"), "CONFIG_LIVEUPDATE=y\n").unwrap();
        let entry = entry();
        let mut recipe = Recipe::read(&entry).unwrap();
        recipe.patches = vec![patch()];
        write(&recipe, &folder, BTreeMap::new(), Instant::now()).unwrap();
        folder
    }

    /// The same, described by an older luqual that read another ABI string out of it.
    fn stored_by_an_older(root: &Path) -> PathBuf {
        let folder = stored(root);
        let path = folder.join(FILE);
        let old = fs::read_to_string(&path).unwrap().replace("\"schema_version\": 2", "\"schema_version\": 1");
        fs::write(&path, old.replace("memfd-v2", "old-v0")).unwrap();
        folder
    }

    /// Whether the ABI is the one that this luqual reads, and whether the file still has the old one.
    fn abi_and_file(folder: &Path) -> (bool, bool) {
        let abi = load(folder, &entry()).unwrap().info.abi.unwrap();
        let is_old = fs::read_to_string(folder.join(FILE)).unwrap().contains("old-v0");
        (abi.contains(&"memfd-v2".to_owned()), is_old)
    }

    #[test]
    fn a_kernel_that_was_damaged_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = stored(root.path());
        let kernel = load(&folder, &entry()).unwrap();
        assert_eq!(kernel.info.release, "9.9.9-x");
        assert_eq!(kernel.info.patches, [patch().described()]);
        fs::write(folder.join("bzImage"), "cut off").unwrap();
        assert!(load(&folder, &entry()).is_none());
    }

    #[test]
    fn what_an_older_luqual_read_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(abi_and_file(&stored_by_an_older(root.path())), (true, false));
    }

    #[test]
    fn nothing_is_written_in_a_folder_that_somebody_else_has() {
        let root = tempfile::tempdir().unwrap();
        let folder = stored_by_an_older(root.path());
        let held = lock::try_take(&lock::beside(&folder)).unwrap();
        assert_eq!(abi_and_file(&folder), (true, true));
        drop(held);
        assert_eq!(abi_and_file(&folder), (true, false));
    }

    #[test]
    fn a_store_that_cannot_be_written_has_its_kernels_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let folder = stored_by_an_older(root.path());
        // A folder where the file would be written, which keeps root out too.
        fs::create_dir(folder.join("metadata.new")).unwrap();
        assert_eq!(abi_and_file(&folder), (true, true));
    }
}
