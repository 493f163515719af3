//! What a source notes for its target, in a preserved memfd.

use super::{Scene, StepError};
use crate::luo::Session;
use crate::memfd::Memfd;
use rustix::fd::AsFd;
use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};

/// Notes by name.
pub(super) type Manifest = BTreeMap<String, String>;

const NAME: &str = "manifest";

/// Preserves them.
pub(super) fn leave(scene: &mut Scene, session: &Session, token: u64, manifest: &Manifest) -> Result<(), StepError> {
    let text = serde_json::to_vec(manifest).map_err(StepError::agent(NAME))?;
    let file = Memfd::new(NAME, 0).make(0).map_err(StepError::agent(NAME))?;
    (&file).write_all(&text).map_err(StepError::agent(NAME))?;
    scene.hand_over(session, file.as_fd(), token, NAME)?;
    scene.hold(NAME, file);
    Ok(())
}

/// Retrieves them; none where the kernel did not keep them, which has its own probe.
pub(super) fn take(scene: &mut Scene, session: &Session, token: u64) -> Result<Option<Manifest>, StepError> {
    let Some(mut file) = scene.retrieve_file(session, token, NAME) else { return Ok(None) };
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.map_err(StepError::agent(NAME))?;
    let manifest = serde_json::from_str(&text);
    let observed = if manifest.is_ok() { "whole" } else { "no manifest" };
    scene.check("memfd manifest content", "whole", observed);
    Ok(manifest.ok())
}
