//! The progress of downloads and builds.

/// Gets the steps of a download or a build.
pub trait BuildProgress {
    /// A step begins; `total` is in the step's unit (bytes, compiled files), if it is known.
    fn start(&self, step: &str, total: Option<u64>);
    /// The amount that is done.
    fn at(&self, done: u64);
    /// A note in a line of its own.
    fn note(&self, line: &str);
    /// The step has ended.
    fn end(&self);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::BuildProgress;
    use std::sync::Mutex;

    /// Ignores everything but notes.
    #[derive(Default)]
    pub(crate) struct Notes(Mutex<Vec<String>>);

    impl Notes {
        pub(crate) fn taken(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    impl BuildProgress for Notes {
        fn start(&self, _: &str, _: Option<u64>) {}
        fn at(&self, _: u64) {}
        fn note(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
        fn end(&self) {}
    }
}
