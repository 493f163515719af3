//! Interactive options of a boot: a session in the guest, its console, a debugger.

use luqual_guest::{Agent, LinkError};
use luqual_model::{Outcome, Phase};
use luqual_protocol::Prompt;
use std::path::Path;
use std::pin::Pin;

/// The interactive options of a boot.
#[derive(Default)]
pub struct InteractiveOptions<'a> {
    /// Opens a session in the guest.
    pub visit: Option<InteractiveSession<'a>>,
    /// Gets each line of the console.
    pub console: Option<fn(&str)>,
    /// Gets the socket of gdb; the guest waits, paused, until the debugger lets it run.
    pub gdb: Option<&'a dyn Fn(&Path)>,
}

/// An interactive session in a guest.
pub struct InteractiveSession<'a> {
    /// The phase before which the session opens; in this phase there is a connection to the guest.
    pub before: Phase,
    /// Files to copy into the guest: the path in the guest, and the content.
    pub files: Vec<(String, Vec<u8>)>,
    /// The handler of the session.
    pub visitor: &'a dyn SessionHandler,
}

/// Handles an interactive session.
pub trait SessionHandler {
    /// Runs the session until the user leaves it or the guest ends. After a kexec in the session, this is called
    /// again in the next kernel; the old future is dropped.
    fn visit<'a>(&'a self, agent: &'a Agent, prompt: &'a Prompt) -> SessionFuture<'a>;
}

/// A session that runs.
pub type SessionFuture<'a> = Pin<Box<dyn Future<Output = Result<(), LinkError>> + 'a>>;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The user left the session.
    Left,
    /// The user interrupted the command before the session.
    Interrupted,
    /// The boot ended before the session, with the outcome that a cell would have, and the reason.
    Ended(Outcome, String),
}

impl InteractiveOptions<'_> {
    pub(super) fn brought(&self) -> impl Iterator<Item = (String, &[u8])> {
        let files = self.visit.iter().flat_map(|visit| &visit.files);
        files.map(|(path, content)| (path.clone(), content.as_slice()))
    }
}
