//! What a person wants of a boot: to be let into the guest, to see its console, to debug it.

use luqual_guest::{Agent, LinkError};
use luqual_model::{Outcome, Phase};
use luqual_protocol::Prompt;
use std::path::Path;
use std::pin::Pin;

/// What somebody who is there wants of a boot.
#[derive(Default)]
pub struct InteractiveOptions<'a> {
    /// To be let into the guest.
    pub visit: Option<InteractiveSession<'a>>,
    /// To be told each line of the console.
    pub console: Option<fn(&str)>,
    /// To debug the guest: it waits, paused, at the socket that is told.
    pub gdb: Option<&'a dyn Fn(&Path)>,
}

/// A visit to a guest.
pub struct InteractiveSession<'a> {
    /// Before which phase; one in which a guest is talked to.
    pub before: Phase,
    /// What is brought along: where it is in the guest, and its content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Who comes.
    pub visitor: &'a dyn SessionHandler,
}

/// Somebody who takes over a guest.
pub trait SessionHandler {
    /// In a guest, until the visitor leaves or the guest is gone. It is asked again in the next kernel if this one is left by a kexec;
    /// what is dropped is over.
    fn visit<'a>(&'a self, agent: &'a Agent, prompt: &'a Prompt) -> SessionFuture<'a>;
}

/// A visit that goes on.
pub type SessionFuture<'a> = Pin<Box<dyn Future<Output = Result<(), LinkError>> + 'a>>;

/// How a visit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The visitor left.
    Left,
    /// The user ended it before.
    Interrupted,
    /// The boot came to an end of its own, as a cell's might, and why.
    Ended(Outcome, String),
}

impl InteractiveOptions<'_> {
    pub(super) fn brought(&self) -> impl Iterator<Item = (String, &[u8])> {
        let files = self.visit.iter().flat_map(|visit| &visit.files);
        files.map(|(path, content)| (path.clone(), content.as_slice()))
    }
}
