//! Finds and builds kernels on a thread of its own, since digests, copies and unpacking block, and running machines
//! have to be watched meanwhile.

use crate::error::EngineError;
use luqual_kernels::{BuildProgress, Kernel, KernelError, Store};
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};

type Ended = std::io::Result<Option<Result<Kernel, KernelError>>>;

/// The progress of the thread.
enum Said {
    Start(String, Option<u64>),
    At(u64),
    Note(String),
    End,
}

impl Said {
    fn to(self, progress: &dyn BuildProgress) {
        match self {
            Self::Start(step, total) => progress.start(&step, total),
            Self::At(done) => progress.at(done),
            Self::Note(line) => progress.note(&line),
            Self::End => progress.end(),
        }
    }
}

/// The thread's end of the channel. If the receiver is dropped, the thread is about to be cancelled.
struct Teller(mpsc::UnboundedSender<Said>);

impl BuildProgress for Teller {
    fn start(&self, step: &str, total: Option<u64>) {
        let _ = self.0.send(Said::Start(step.to_owned(), total));
    }

    fn at(&self, done: u64) {
        let _ = self.0.send(Said::At(done));
    }

    fn note(&self, line: &str) {
        let _ = self.0.send(Said::Note(line.to_owned()));
    }

    fn end(&self) {
        let _ = self.0.send(Said::End);
    }
}

/// The thread. When this is dropped, the build is cancelled, and its unfinished files in the store are removed.
struct BuildThread {
    cancel: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Ended>>,
    said: mpsc::UnboundedReceiver<Said>,
}

impl BuildThread {
    fn start(store: Store, spec: String) -> std::io::Result<Self> {
        let (cancel, mut cancelled) = oneshot::channel();
        let (sender, said) = mpsc::unbounded_channel();
        let work = move || {
            // Dropped last: the channel closes when there is nothing left to be done.
            let teller = Teller(sender);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(async {
                tokio::select! {
                    found = store.resolve(&spec, &teller) => Some(found),
                    _ = &mut cancelled => None,
                }
            }))
        };
        let thread = thread::Builder::new().name("kernel-build".to_owned()).spawn(work)?;
        Ok(Self { cancel: Some(cancel), thread: Some(thread), said })
    }
}

impl Drop for BuildThread {
    fn drop(&mut self) {
        drop(self.cancel.take());
        // Without the join, a compiler would continue and its folder would stay if luqual ended first.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The kernel that `spec` names, which is built if it is not in the store. The caller gets the progress.
pub(crate) async fn resolve(store: &Store, spec: &str, progress: &dyn BuildProgress) -> Result<Kernel, EngineError> {
    let failed = EngineError::own("the thread that builds kernels");
    let mut build = BuildThread::start(store.clone(), spec.to_owned()).map_err(failed)?;
    while let Some(said) = build.said.recv().await {
        said.to(progress);
    }
    let failed = EngineError::own("the thread that builds kernels");
    match build.thread.take().map(JoinHandle::join) {
        Some(Ok(Ok(Some(found)))) => found.map_err(EngineError::from),
        Some(Ok(Err(error))) => Err(failed(error)),
        _ => Err(EngineError::harness("the thread that builds kernels ended without a result")),
    }
}
