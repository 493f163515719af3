//! For whom the engine works: which luqual, who listens, and whether it is to stop.

use crate::error::EngineError;
use crate::machine::Machines;
use crate::notice::{Building, Listener, Notice};
use luqual_model::{HostInfo, RunInfo};
use std::path::PathBuf;
use tokio::sync::watch;

/// What every job of the engine is given.
#[derive(Clone)]
pub struct Context<'a> {
    /// What records say that they were written by: `luqual VERSION (COMMIT)`.
    pub tool: String,
    /// The program that is started again for each task of a job array.
    pub program: PathBuf,
    /// The command line, as given; records have it.
    pub command: Vec<String>,
    /// Who is told what happens.
    pub listener: &'a dyn Listener,
    /// Where machines come from.
    pub machines: &'a dyn Machines,
    /// Turns true when the user ends it.
    pub interrupt: watch::Receiver<bool>,
}

impl Context<'_> {
    pub(crate) fn tell(&self, notice: Notice<'_>) {
        self.listener.hear(notice);
    }

    pub(crate) fn building(&self) -> Building<'_> {
        Building(self.listener)
    }

    /// Comes when the user ends it.
    pub(crate) async fn interrupted(&self) {
        let mut interrupt = self.interrupt.clone();
        if interrupt.wait_for(|interrupted| *interrupted).await.is_err() {
            std::future::pending().await
        }
    }

    /// What `work` comes to, unless the user ends it before.
    pub async fn unless_interrupted<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, EngineError>
    where
        EngineError: From<E>,
    {
        tokio::select! {
            // Work that is done at once would else win half of the time over a user who was there before it.
            biased;
            () = self.interrupted() => Err(EngineError::interrupted()),
            done = work => done.map_err(EngineError::from),
        }
    }

    /// A run of nothing yet, on no machine yet.
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

    /// Keeps what it hears, as words.
    #[derive(Default)]
    pub(crate) struct Heard(pub(crate) RefCell<Vec<String>>);

    impl Listener for Heard {
        fn hear(&self, notice: Notice<'_>) {
            self.0.borrow_mut().push(format!("{notice:?}"));
        }
    }

    /// For one who listens, with what ends it.
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
        // One whom nobody can end goes on.
        drop(sender);
        let (never, _) = tests::context(&heard);
        assert!(never.unless_interrupted(async { Ok::<_, EngineError>(()) }).await.is_ok());
    }
}
