//! The catalog, the builds, the artifact store, and what an image says of itself.

pub mod digest;
pub mod image;
