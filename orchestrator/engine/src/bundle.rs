//! A cell with all that it takes to make it again elsewhere, as one file.

mod archive;
mod pack;
mod unpack;

pub use pack::{BundleRequest, Packed, pack};
pub(crate) use unpack::Unpacked;
