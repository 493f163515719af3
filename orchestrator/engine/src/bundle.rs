//! Bundles: a cell, with everything that is needed to reproduce it on another host, in one file.

mod archive;
mod pack;
mod unpack;

pub use pack::{BundleRequest, Packed, pack};
use std::path::Path;
pub(crate) use unpack::Unpacked;

/// Unpacks the bundle in `file` into an empty folder, or says why it cannot. For the tests with generated files.
#[doc(hidden)]
pub fn unpack_bundle(file: &Path, into: &Path) -> Result<(), String> {
    let file = luqual_files::open(file).map_err(|error| error.to_string())?;
    archive::unpack(file, into).map_err(|why| format!("{why:?}"))
}
