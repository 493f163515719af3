//! Packages that Debian builds from its source package `linux`, as a catalog names them.

use luqual_config::document::Text;
use std::fmt;

/// A package, in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianPackage {
    /// Such as `linux-source-7.3`.
    pub name: String,
    /// Such as `7.3.4-1~bpo13+1`.
    pub version: String,
    /// The digest of the .deb.
    pub sha256: String,
}

impl DebianPackage {
    /// Reads PACKAGE_VERSION, such as `example`. Without a digest there is no package.
    pub(crate) fn read(text: &Text<'_>, sha256: Option<String>, example: &str) -> Option<Self> {
        let parts = text.text.split_once('_');
        if parts.is_none() {
            text.wrong(format!("`debian` must be PACKAGE_VERSION, such as {example}"), None);
        }
        let (name, version) = parts?;
        Some(Self { name: name.to_owned(), version: version.to_owned(), sha256: sha256? })
    }

    /// The name of its file in the archive.
    pub(crate) fn file_name(&self, architecture: &str) -> String {
        format!("{}_{}_{architecture}.deb", self.name, self.version)
    }
}

impl fmt::Display for DebianPackage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Debian {} {}, sha256 {}", self.name, self.version, self.sha256)
    }
}

/// Reads a digest.
pub(crate) fn sha256_of(text: &Text<'_>) -> Option<String> {
    let is_digest = text.text.len() == 64 && text.text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digest {
        text.wrong("`sha256` must be 64 hexadecimal digits", None);
    }
    is_digest.then(|| text.text.to_ascii_lowercase())
}
