//! Kernels by path: an image, the tree in which one was built, or a folder in which one is installed or unpacked.

use crate::config::KernelConfig;
use crate::error::KernelError;
use crate::image::{self, ImageFacts};
use crate::installed;
use crate::kernel::Kernel;
use crate::modules::Modules;
use luqual_files::digest;
use luqual_model::{ARCH, KernelInfo, bounds};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Reads the kernel at `path`, which exists. The user named it by `spec`.
pub(super) fn read(spec: &str, path: &Path) -> Result<Kernel, KernelError> {
    let Found { tree, image, bytes } = find(spec, path)?;
    let tree = tree.as_deref();
    let wrong = |why: String| KernelError::NotAKernel { path: spec.into(), why };
    let mut facts = image::read(&bytes).map_err(|error| wrong(error.to_string()))?;
    let symbols = tree.and_then(|tree| of_tree(tree, &mut facts));
    let told = facts.config.take().map(|config| (config, "the image".to_owned()));
    let beside = || match tree {
        Some(tree) => installed::text(tree.join(".config")),
        None => installed::config(&image, &facts.release),
    };
    // Where luqual has unpacked packages says nothing to the user; the place in them does.
    let are_packages = Path::new(spec) != path;
    let in_packages = |file: String| match Path::new(&file).strip_prefix(path) {
        Ok(within) if are_packages => format!("{} in the packages", within.display()),
        _ => file,
    };
    let config = told.or_else(beside).map(|(text, file)| (KernelConfig::parse(&text), in_packages(file)));
    let folder = installed::modules(&image, &facts.release).filter(|_| tree.is_none());
    let modules = match folder {
        Some(folder) => {
            Modules::read(&folder, &facts.release, config.as_ref().map(|(config, _)| config)).map_err(wrong)?
        }
        None => Modules::default(),
    };
    let map = match tree {
        Some(tree) => Some(tree.join("System.map")).filter(|map| symbols.is_some() && map.is_file()),
        None => installed::map(&image, &facts.release),
    };
    let mut told = BTreeMap::from([(format!("size of {}", ARCH.image.name), format!("{} bytes", bytes.len()))]);
    if let Some(why) = facts.unread {
        told.insert("payload".to_owned(), format!("not read: {why}"));
    }
    told.extend(modules.facts());
    let unknown = || "unknown: it is neither in the image nor beside it".to_owned();
    told.insert("configuration".to_owned(), config.as_ref().map_or_else(unknown, |(_, file)| format!("in {file}")));
    let image = fs::canonicalize(&image).map_err(KernelError::named(&image))?;
    let info = KernelInfo {
        name: spec.to_owned(),
        release: facts.release,
        build_id: facts.build_id,
        image_sha256: digest::of_bytes(&bytes),
        provenance: if are_packages { format!("packages {spec}") } else { format!("file {}", image.display()) },
        abi: facts.abi,
        capabilities: config.as_ref().map(|(config, _)| config.capabilities(&modules.names)),
        lacking: config.as_ref().map_or_else(BTreeMap::new, |(config, file)| config.lacking(file, &modules.names)),
        modules: modules.digests(),
        base: None,
        static_keys: config.as_ref().map(|(config, _)| config.has_static_keys()),
        command_line: format!("console={} kho=on liveupdate=on", ARCH.console.device),
        patches: Vec::new(),
        facts: told,
    };
    Ok(Kernel { info, image, symbols, map, modules: modules.in_order })
}

/// The release of the kernel at `path`, which exists: the image is not unpacked for it.
pub(super) fn release(spec: &str, path: &Path) -> Result<String, KernelError> {
    let Found { bytes, .. } = find(spec, path)?;
    image::release(&bytes).map_err(|error| KernelError::NotAKernel { path: spec.into(), why: error.to_string() })
}

/// An image, and the tree in which it was built, if it lies in one.
struct Found {
    tree: Option<PathBuf>,
    image: PathBuf,
    bytes: Vec<u8>,
}

fn find(spec: &str, path: &Path) -> Result<Found, KernelError> {
    let wrong = |why: String| KernelError::NotAKernel { path: spec.into(), why };
    let built = installed::built(path);
    let tree = built.is_some().then(|| path.to_owned());
    let image = match built {
        Some(image) => image,
        None if path.is_dir() => installed::image(path).map_err(wrong)?,
        None => path.to_owned(),
    };
    let bytes =
        luqual_files::read(&image, bounds::IMAGE).map_err(|error| wrong(format!("{}: {error}", image.display())))?;
    Ok(Found { tree, image, bytes })
}

/// The vmlinux of a tree, if it is of the same build as the image. It has the ABI strings of an image that could not
/// be unpacked.
fn of_tree(tree: &Path, facts: &mut ImageFacts) -> Option<PathBuf> {
    let path = tree.join("vmlinux");
    let elf = luqual_files::read(&path, bounds::VMLINUX).ok()?;
    if facts.abi.is_none() {
        facts.abi = Some(image::abi_strings(&elf));
    }
    let is_same = facts.build_id.is_none() || image::build_id(&elf) == facts.build_id;
    is_same.then(|| fs::canonicalize(path).ok()).flatten()
}
