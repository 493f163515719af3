//! What every command is given.

use crate::words::Words;
use luqual_engine::Context;

/// Where a command is run.
pub(crate) struct Here<'a> {
    /// For the engine.
    pub(crate) engine: Context<'a>,
    /// Who tells what the engine does.
    pub(crate) words: &'a Words,
}
