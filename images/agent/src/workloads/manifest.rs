//! Notes of a source for its target, in a preserved memfd.

use crate::luo::Session;
use crate::memfd::Memfd;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use rustix::fd::AsFd;
use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};

/// Notes by name.
pub(super) type Manifest = BTreeMap<String, String>;

const NAME: &str = "manifest";

/// Preserves the notes.
pub(super) fn preserve(
    context: &mut Context,
    session: &Session,
    token: u64,
    manifest: &Manifest,
) -> Result<(), StepError> {
    let text = serde_json::to_vec(manifest).map_err(StepError::agent(NAME))?;
    let file = Memfd::new(NAME, 0).make(0).map_err(StepError::agent(NAME))?;
    (&file).write_all(&text).map_err(StepError::agent(NAME))?;
    context.preserve_fd(session, file.as_fd(), token, NAME)?;
    context.hold(NAME, file);
    Ok(())
}

/// Retrieves the notes; none if the kernel did not give them back, which a probe says.
pub(super) fn retrieve(context: &mut Context, session: &Session, token: u64) -> Result<Option<Manifest>, StepError> {
    let Some(mut file) = context.retrieve_file(session, token, NAME) else { return Ok(None) };
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.map_err(StepError::agent(NAME))?;
    let manifest = serde_json::from_str(&text);
    let observed = if manifest.is_ok() { "whole" } else { "no manifest" };
    context.check("memfd manifest content", "whole", observed);
    Ok(manifest.ok())
}
