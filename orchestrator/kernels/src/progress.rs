//! What a build tells of itself while it runs.

/// Hears of the steps of a download and a build.
pub trait Progress {
    /// A step begins; `total` is in the step's unit (bytes, compiled files), if it is known.
    fn start(&self, step: &str, total: Option<u64>);
    /// So much of it is done.
    fn at(&self, done: u64);
    /// Something worth a line of its own.
    fn note(&self, line: &str);
    /// The step is done.
    fn end(&self);
}
