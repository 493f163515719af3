//! How the page marks an outcome, and how it writes a time.

use crate::brief::Brief;
use luqual_model::Outcome;

/// The CSS class that colours an outcome. A tainted survival has a colour of its own.
pub(super) fn class(brief: &Brief) -> String {
    format!("{}{}", brief.outcome, if brief.tainted { " tainted" } else { "" })
}

/// A sign for the outcome, since colour must not be the only carrier.
pub(super) fn mark(brief: &Brief) -> &'static str {
    if brief.tainted && brief.outcome == Outcome::Survived { "!" } else { mark_of(brief.outcome) }
}

pub(super) fn mark_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Survived => "✓",
        Outcome::Lost => "✗",
        Outcome::Incompatible | Outcome::Refused => "≠",
        Outcome::Crashed => "☠",
        Outcome::Skipped => "–",
        Outcome::HarnessFailed => "?",
    }
}

pub(super) fn seconds(us: u64) -> String {
    format!("{:.1} s", us as f64 / 1e6)
}
