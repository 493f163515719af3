//! Where a built or installed kernel has its files: as `make install` and `make modules_install` put them, or as packages of
//! distributions do.

use luqual_model::ARCH;
use luqual_model::bounds::KERNEL_CONFIG;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where modules are, and from Linux 7.x on Debian's images.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// The image in the tree in which it was built.
pub(crate) fn built(tree: &Path) -> Option<PathBuf> {
    Some(tree.join(ARCH.image.in_tree)).filter(|image| image.is_file())
}

/// The image of the only kernel that is installed beneath `root`.
pub(crate) fn image(root: &Path) -> Result<PathBuf, String> {
    // By release. Debian's older packages have one image in two places.
    let mut found = BTreeMap::new();
    for name in names(&root.join("boot")) {
        if let Some(release) = name.strip_prefix("vmlinuz-") {
            found.insert(release.to_owned(), root.join("boot").join(&name));
        }
    }
    for modules in MODULES.map(|folder| root.join(folder)) {
        for release in names(&modules) {
            let image = modules.join(&release).join("vmlinuz");
            if image.is_file() {
                found.entry(release).or_insert(image);
            }
        }
    }
    if found.len() > 1 {
        let images: Vec<String> = found.values().map(|image| image.display().to_string()).collect();
        return Err(format!("it has {} kernels; give one of {}", images.len(), images.join(", ")));
    }
    found.into_values().next().ok_or_else(|| {
        format!(
            "it has no image: no {}, as a build leaves it, no boot/vmlinuz-VERSION and no lib/modules/VERSION/vmlinuz, as a \
             package has it",
            ARCH.image.in_tree
        )
    })
}

/// The configuration of an installed image, and the file that it is in.
pub(crate) fn config(image: &Path, release: &str) -> Option<(String, String)> {
    beside(image, release, "config").find_map(text)
}

/// The System.map of an installed image.
pub(crate) fn map(image: &Path, release: &str) -> Option<PathBuf> {
    beside(image, release, "System.map").find(|path| path.is_file())
}

/// The folder of an installed image's modules.
pub(crate) fn modules(image: &Path, release: &str) -> Option<PathBuf> {
    of_modules(image, release).find(|path| path.is_dir())
}

/// Where a file of an installed image can be. It is the image's own only if file or folder has the release in its
/// name.
fn beside(image: &Path, release: &str, name: &str) -> impl Iterator<Item = PathBuf> {
    let of_boot = image.parent().map(|folder| folder.join(format!("{name}-{release}")));
    let name = name.to_owned();
    of_boot.into_iter().chain(of_modules(image, release).map(move |folder| folder.join(&name)))
}

/// Where the modules of an installed image can be: around it, or in `lib` next to `boot`.
fn of_modules(image: &Path, release: &str) -> impl Iterator<Item = PathBuf> {
    let folder = image.parent();
    let own = folder.filter(|folder| folder.file_name().is_some_and(|name| name == release)).map(Path::to_owned);
    let root = folder.and_then(Path::parent).map(Path::to_owned);
    let release = release.to_owned();
    let in_root = root.into_iter().flat_map(move |root| MODULES.map(|modules| root.join(modules).join(&release)));
    own.into_iter().chain(in_root)
}

/// The text of a configuration, and the file that it is in.
pub(crate) fn text(path: PathBuf) -> Option<(String, String)> {
    let text = luqual_files::read_text(&path, KERNEL_CONFIG).ok()?;
    Some((text, path.display().to_string()))
}

/// The names in a folder, as far as they are text.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    #[test]
    fn the_only_image_is_found_wherever_a_package_has_it() {
        for file in ["boot/vmlinuz-1.2", "lib/modules/1.2/vmlinuz", "usr/lib/modules/1.2/vmlinuz"] {
            let root = with(&[file, "lib/modules/1.1/modules.dep", "boot/config-1.1"]);
            assert_eq!(image(root.path()), Ok(root.path().join(file)));
        }
        let twice = with(&["boot/vmlinuz-1.2", "lib/modules/1.2/vmlinuz"]);
        assert_eq!(image(twice.path()), Ok(twice.path().join("boot/vmlinuz-1.2")));
    }

    #[test]
    fn none_and_several_are_told() {
        let several = with(&["boot/vmlinuz-1.2", "usr/lib/modules/1.3/vmlinuz"]);
        let why = image(several.path()).unwrap_err();
        assert!(
            why.contains("2 kernels") && why.contains("boot/vmlinuz-1.2, ") && why.contains("1.3/vmlinuz"),
            "{why}"
        );
        let none = with(&["lib/modules/1.2/modules.dep"]);
        assert!(image(none.path()).unwrap_err().contains("lib/modules/VERSION/vmlinuz"));
    }

    #[test]
    fn a_configuration_is_only_that_of_its_release() {
        let of = |files: &[&str], image: &str| {
            let root = with(files);
            config(&root.path().join(image), "1.2").map(|(text, file)| {
                assert_eq!(file, root.path().join(&text).display().to_string());
                text
            })
        };
        for (file, image) in [
            ("boot/config-1.2", "boot/vmlinuz-1.2"),
            ("lib/modules/1.2/config", "lib/modules/1.2/vmlinuz"),
            ("usr/lib/modules/1.2/config", "boot/vmlinuz-1.2"),
            ("config-1.2", "bzImage"),
        ] {
            assert_eq!(of(&[file], image).as_deref(), Some(file));
        }
        assert_eq!(of(&["boot/config-1.3", "lib/modules/1.3/config"], "boot/vmlinuz-1.2"), None);
        assert_eq!(of(&["somewhere/config"], "somewhere/vmlinuz"), None);
    }

    #[test]
    fn modules_and_symbols_are_those_of_the_release() {
        let root =
            with(&["boot/vmlinuz-1.2", "lib/modules/1.2/System.map", "lib/modules/1.3/x", "boot/System.map-1.3"]);
        let of = |release| {
            let image = root.path().join("boot").join(format!("vmlinuz-{release}"));
            [modules(&image, release), map(&image, release)]
        };
        let at = |path: &str| Some(root.path().join(path));
        assert_eq!(of("1.2"), [at("lib/modules/1.2"), at("lib/modules/1.2/System.map")]);
        assert_eq!(of("1.3"), [at("lib/modules/1.3"), at("boot/System.map-1.3")]);
        assert_eq!(of("1.4"), [None, None]);
    }
}
