//! Bundles: a cell, with everything that is needed to reproduce it on another host, in one file.

mod archive;
mod pack;
mod unpack;

pub use pack::{BundleRequest, Packed, pack};
pub(crate) use unpack::Unpacked;
