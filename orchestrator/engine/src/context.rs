//! The context of the engine's jobs: the version of luqual, the listener, and the interrupt.

use crate::error::EngineError;
use crate::machine::Machines;
use crate::notice::{Building, Listener, Notice};
use luqual_model::{HostInfo, RunInfo};
use std::path::PathBuf;
use tokio::sync::watch;

/// The context of every job of the engine.
#[derive(Clone)]
pub struct Context<'a> {
    /// The version for records: `luqual VERSION (COMMIT)`.
    pub tool: String,
    /// The program that each task of a job array starts.
    pub program: PathBuf,
    /// The command line, for records.
    pub command: Vec<String>,
    /// Gets the notices.
    pub listener: &'a dyn Listener,
    /// Finds QEMU and starts machines.
    pub machines: &'a dyn Machines,
    /// Becomes true when the user ends the job.
    pub interrupt: watch::Receiver<bool>,
}

impl Context<'_> {
    pub(crate) fn tell(&self, notice: Notice<'_>) {
        self.listener.hear(notice);
    }

    pub(crate) fn building(&self) -> Building<'_> {
        Building(self.listener)
    }

    /// Waits until the user ends the job; for ever if that cannot happen.
    pub(crate) async fn interrupted(&self) {
        let mut interrupt = self.interrupt.clone();
        if interrupt.wait_for(|interrupted| *interrupted).await.is_err() {
            std::future::pending().await
        }
    }

    /// Runs `work`; an error if the user ends the job first.
    pub async fn unless_interrupted<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, EngineError>
    where
        EngineError: From<E>,
    {
        tokio::select! {
            // Without `biased`, work that is ready at once could win over an earlier interrupt.
            biased;
            () = self.interrupted() => Err(EngineError::interrupted()),
            done = work => done.map_err(EngineError::from),
        }
    }

    /// A run without cells and without a host.
    pub(crate) fn new_run(&self) -> RunInfo {
        let started = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        RunInfo::new(String::new(), self.tool.clone(), self.command.clone(), started, HostInfo::default())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::fakes::NoMachines;
    use std::cell::RefCell;

    /// A listener that stores the notices as text.
    #[derive(Default)]
    pub(crate) struct Heard(pub(crate) RefCell<Vec<String>>);

    impl Listener for Heard {
        fn hear(&self, notice: Notice<'_>) {
            self.0.borrow_mut().push(format!("{notice:?}"));
        }
    }

    /// A context for `listener`, with the sender that interrupts it.
    pub(crate) fn context(listener: &dyn Listener) -> (Context<'_>, watch::Sender<bool>) {
        let (sender, interrupt) = watch::channel(false);
        let [tool, program] = ["luqual test", "/nowhere/luqual"].map(str::to_owned);
        let command = vec!["luqual".into()];
        let context = Context { tool, program: program.into(), command, listener, machines: &NoMachines, interrupt };
        (context, sender)
    }

    #[tokio::test]
    async fn what_the_user_ends_is_no_failure() {
        let heard = Heard::default();
        let (context, sender) = context(&heard);
        let done = context.unless_interrupted(async { Ok::<_, EngineError>(7) }).await;
        assert_eq!(done.unwrap(), 7);
        sender.send(true).unwrap();
        let ended = context.unless_interrupted(std::future::pending::<Result<(), EngineError>>()).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Interrupted);
        for _ in 0..20 {
            let at_once = context.unless_interrupted(async { Ok::<_, EngineError>(7) }).await;
            assert_eq!(at_once.unwrap_err().kind(), ErrorKind::Interrupted);
        }
        // A job whose interrupt has no sender runs to its end.
        drop(sender);
        let (never, _) = tests::context(&heard);
        assert!(never.unless_interrupted(async { Ok::<_, EngineError>(()) }).await.is_ok());
    }
}
