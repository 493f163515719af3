//! What the configuration of a kernel starts from: nothing, or the whole configuration of somebody, such as a
//! distribution.

use crate::debian::{DebianPackage, sha256_of};
use crate::error::KernelError;
use crate::unpack::{deb_data, opened};
use luqual_config::document::Table;
use luqual_model::ARCH;
use luqual_model::bounds::KERNEL_CONFIG;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The base of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// allnoconfig: only what the fragments request, and its dependencies.
    AllNo,
    /// A whole .config. Options that the kernel does not have are dropped.
    Whole(Whole),
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The name of its file.
    pub name: String,
    /// Where it comes from.
    pub from: Origin,
    /// The modules to build of those that it has; what they need is built with them. None: all.
    pub modules: Vec<String>,
}

/// The origin of a whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file in `config/` beside the catalog, with this content.
    File(String),
    /// A package with configurations, such as `linux-config-7.3`.
    Debian(DebianPackage),
}

impl Base {
    /// Reads `base` of a kernel in a catalog. `config` reads a file beside it.
    pub(crate) fn read(table: &Table<'_>, config: &dyn Fn(&str) -> Result<String, String>) -> Option<Self> {
        let modules: Vec<String> = table.texts("modules").iter().map(|name| name.text.replace('-', "_")).collect();
        let whole =
            |name: &str, from: Origin| Self::Whole(Whole { name: name.to_owned(), from, modules: modules.clone() });
        if table.has_table("base") {
            return table.table("base", |table| {
                let (debian, file, sha256) =
                    (table.needed_text("debian"), table.needed_text("file"), table.needed_text("sha256"));
                let (debian, file, sha256) = (debian?, file?, sha256?);
                let package = DebianPackage::read(&debian, sha256_of(&sha256), "linux-config-7.3_7.3.4-1");
                Some(whole(file.text, Origin::Debian(package?)))
            });
        }
        let base = table.needed_text("base")?;
        if base.text == "allnoconfig" {
            if !modules.is_empty() {
                let hint = "ask for them in a fragment, or start from a whole configuration";
                table.wrong("`modules` chooses among those of a whole configuration", Some(hint.to_owned()));
            }
            return Some(Self::AllNo);
        }
        let hint = format!(
            "write allnoconfig, the name of a whole configuration in config/ beside the catalog, or a package: \
             {{ debian = \"linux-config-7.3_7.3.4-1\", file = \"config.{0}_none_cloud-{0}.xz\", sha256 = … }}",
            ARCH.debian
        );
        config(base.text)
            .map(|text| whole(base.text, Origin::File(text)))
            .map_err(|why| base.wrong(format!("base `{}`: {why}", base.text), Some(hint)))
            .ok()
    }
}

/// The name of the base, and what identifies it, for a kernel's provenance.
impl std::fmt::Display for Whole {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.from {
            Origin::File(_) => write!(to, "{}", self.name),
            Origin::Debian(package) => write!(to, "{} of {package}", self.name),
        }
    }
}

impl Whole {
    /// What of it determines the bytes of a kernel.
    pub(crate) fn key(&self) -> Vec<String> {
        let content = match &self.from {
            Origin::File(text) => format!("base {text}"),
            Origin::Debian(package) => format!("base {} {}", package.sha256, self.name),
        };
        let modules = (!self.modules.is_empty()).then(|| format!("modules {}", self.modules.join(" ")));
        std::iter::once(content).chain(modules).collect()
    }
}

/// The configuration `name` in a package of configurations, which can be packed itself.
pub(crate) fn in_package(package: &Path, name: &str) -> Result<String, KernelError> {
    let wrong = |why: String| KernelError::Package { path: package.to_owned(), why };
    let file = File::open(package).map_err(KernelError::file(package))?;
    let found = deb_data(BufReader::new(file), |data| {
        for entry in tar::Archive::new(data).entries()? {
            let entry = entry?;
            if entry.header().entry_type().is_file() && entry.path()?.file_name() == Some(name.as_ref()) {
                let mut text = String::new();
                opened(entry)?.take(KERNEL_CONFIG + 1).read_to_string(&mut text)?;
                return match text.len() as u64 > KERNEL_CONFIG {
                    true => Err(io::Error::other(format!("{name} is too large for a configuration"))),
                    false => Ok(Some(text)),
                };
            }
        }
        Ok(None)
    });
    found.map_err(|error| wrong(error.to_string()))?.ok_or_else(|| wrong(format!("the package has no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::tests::deb;
    use std::io::Write;

    #[test]
    fn a_configuration_is_read_from_its_package() {
        let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 1);
        packed.write_all(b"CONFIG_A=m\n").unwrap();
        let packed = packed.finish().unwrap();
        let mut data = tar::Builder::new(Vec::new());
        for (name, content) in [("./usr/src/x/config.a.xz", &packed[..]), ("./usr/src/x/config.b", b"CONFIG_B=y\n")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            data.append_data(&mut header, name, content).unwrap();
        }
        let data = data.into_inner().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("linux-config.deb");
        std::fs::write(&file, deb(&data)).unwrap();
        assert_eq!(in_package(&file, "config.a.xz").unwrap(), "CONFIG_A=m\n");
        assert_eq!(in_package(&file, "config.b").unwrap(), "CONFIG_B=y\n");
        let told = in_package(&file, "config.c").unwrap_err().to_string();
        assert!(told.contains("linux-config.deb") && told.contains("has no config.c"), "{told}");
    }
}
