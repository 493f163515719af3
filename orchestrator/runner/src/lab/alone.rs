//! A guest without a connection: it executes the requests in its initramfs, and the host reads its replies from a
//! file.

use super::reply::bounded;
use super::{Guest, Waiting};
use luqual_guest::Agent;
use luqual_model::bounds::{PROBE_TEXT, cut};
use luqual_protocol::{Reply, Request};
use luqual_vm::{ANSWERS, Lines};
use std::rc::Rc;
use tokio::sync::Mutex;

/// The replies of a guest, of all of its kernels.
#[derive(Clone)]
pub(crate) struct Alone(Rc<Mutex<Answers>>);

struct Answers {
    lines: Lines,
    /// The first reply of the next kernel, if it was read before the kernel's start was seen.
    early: Option<Reply>,
}

impl Alone {
    pub(crate) fn new(lines: Lines) -> Self {
        Self(Rc::new(Mutex::new(Answers { lines, early: None })))
    }

    /// Waits until there is a reply that was not read yet.
    pub(crate) async fn answers(&self) {
        let mut answers = self.0.lock().await;
        if answers.early.is_none() {
            answers.lines.ready().await;
        }
    }
}

impl Guest for Alone {
    /// Waits for the next reply; the guest has the request already.
    fn ask<'a>(&'a self, request: &'a Request) -> Waiting<'a, Result<Reply, String>> {
        Box::pin(async move {
            let mut answers = self.0.lock().await;
            if let Some(early) = answers.early.take() {
                return Ok(early);
            }
            let line = answers.lines.next().await;
            let reply = serde_json::from_str(&line)
                .map_err(|error| format!("{ANSWERS}: `{}`: {error}", cut(&line, PROBE_TEXT)))
                .and_then(bounded)?;
            if *request == Request::Kexec && matches!(reply, Reply::Hello(_)) {
                // A kernel that is left sends no reply: this reply is the next kernel's, to the next request.
                answers.early = Some(reply.clone());
            }
            Ok(reply)
        })
    }

    /// The guest injects its fault by itself.
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
