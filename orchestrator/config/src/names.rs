//! The names that a matrix file may use, and the check of a name against them.

use crate::document::{Text, nearest};

/// The names that a matrix file may use.
pub struct KnownNames<'a> {
    /// The kernels of the catalog.
    pub kernels: &'a [&'a str],
    /// The workloads.
    pub workloads: &'a [&'a str],
    /// The profiles.
    pub profiles: &'a [&'a str],
}

/// Whether the name of a kernel is a path.
pub fn is_path(name: &str) -> bool {
    name.contains('/') || name == "."
}

/// Reports an unknown name, with the nearest known one or with all of them.
pub(crate) fn unknown(text: &Text<'_>, what: &str, known: &[&str], more: &str) {
    let hint = nearest(text.text, known.iter().copied())
        .map_or_else(|| format!("known: {}{more}", known.join(", ")), |near| format!("is `{near}` meant?"));
    text.wrong(format!("unknown {what} `{}`", text.text), Some(hint));
}
