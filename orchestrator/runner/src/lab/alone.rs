//! A guest that goes on alone: it does what stands in its initramfs, and its answers are read from a file.

use super::{Guest, Waiting};
use luqual_guest::Agent;
use luqual_protocol::{Reply, Request};
use luqual_vm::{ANSWERS, Lines};
use std::rc::Rc;
use tokio::sync::Mutex;

/// The answers of a guest, whichever kernel of it gives them.
#[derive(Clone)]
pub(crate) struct Alone(Rc<Mutex<Answers>>);

struct Answers {
    lines: Lines,
    /// What the next kernel said before it was seen to begin.
    early: Option<Reply>,
}

impl Alone {
    pub(crate) fn new(lines: Lines) -> Self {
        Self(Rc::new(Mutex::new(Answers { lines, early: None })))
    }

    /// Waits until it has answered something that was not read yet.
    pub(crate) async fn answers(&self) {
        let mut answers = self.0.lock().await;
        if answers.early.is_none() {
            answers.lines.ready().await;
        }
    }
}

impl Guest for Alone {
    /// Waits for the next answer: the request stands in the guest.
    fn ask<'a>(&'a self, request: &'a Request) -> Waiting<'a, Result<Reply, String>> {
        Box::pin(async move {
            let mut answers = self.0.lock().await;
            if let Some(early) = answers.early.take() {
                return Ok(early);
            }
            let line = answers.lines.next().await;
            let reply = serde_json::from_str(&line).map_err(|error| format!("{ANSWERS}: `{line}`: {error}"))?;
            if *request == Request::Kexec && matches!(reply, Reply::Hello(_)) {
                // A kernel that is left answers nothing: this is the next one's answer to what comes next.
                answers.early = Some(reply.clone());
            }
            Ok(reply)
        })
    }

    /// It does so by itself.
    fn inject<'a>(&'a self, _: &'a str) -> Waiting<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn agent_is_asked(&self) -> bool {
        false
    }

    fn agent(&self) -> Option<&Agent> {
        None
    }
}
