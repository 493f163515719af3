//! Kernels by path: a bzImage, or the tree in which one was built.

use crate::config::KernelConfig;
use crate::error::KernelError;
use crate::image;
use crate::kernel::Kernel;
use luqual_files::digest;
use luqual_model::{KernelInfo, bounds};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Reads the kernel at the path `spec`, which exists.
pub(super) fn read(spec: &str) -> Result<Kernel, KernelError> {
    let path = Path::new(spec);
    let wrong = |why: String| KernelError::NotAKernel { path: path.to_owned(), why };
    let image = if path.is_dir() { path.join("arch/x86/boot/bzImage") } else { path.to_owned() };
    let bytes =
        luqual_files::read(&image, bounds::IMAGE).map_err(|error| wrong(format!("{}: {error}", image.display())))?;
    let mut facts = image::read(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut symbols = None;
    if path.is_dir() {
        // A tree has more facts than its image, if both are from the same build.
        let config = || luqual_files::read_text(&path.join(".config"), bounds::KERNEL_CONFIG).ok();
        facts.config = facts.config.or_else(config);
        let elf = luqual_files::read(&path.join("vmlinux"), bounds::VMLINUX).ok();
        if facts.abi.is_none() {
            facts.abi = elf.as_deref().map(image::abi_strings);
        }
        let is_same = |elf: &[u8]| facts.build_id.is_none() || image::build_id(elf) == facts.build_id;
        symbols = elf.filter(|elf| is_same(elf)).and_then(|_| fs::canonicalize(path.join("vmlinux")).ok());
    }
    let mut told = BTreeMap::from([("size of bzImage".to_owned(), format!("{} bytes", bytes.len()))]);
    if let Some(why) = facts.unread {
        told.insert("payload".to_owned(), format!("not read: {why}"));
    }
    let image = fs::canonicalize(&image).map_err(KernelError::named(&image))?;
    let config = facts.config.map(|config| KernelConfig::parse(&config));
    let info = KernelInfo {
        name: spec.to_owned(),
        release: facts.release,
        build_id: facts.build_id,
        image_sha256: digest::of_bytes(&bytes),
        provenance: format!("file {}", image.display()),
        abi: facts.abi,
        capabilities: config.as_ref().map(KernelConfig::capabilities),
        static_keys: config.as_ref().map(KernelConfig::has_static_keys),
        command_line: "console=ttyS0 kho=on liveupdate=on".to_owned(),
        patches: Vec::new(),
        facts: told,
    };
    Ok(Kernel { info, image, symbols })
}
