//! From the run record to what people and machines read.

mod brief;
mod curve;
mod devices;
mod diff;
mod display;
mod frames;
mod grid;
mod html;
mod journal;
mod junit;
mod kcidb;
mod kernels;
mod ktap;
mod latest;
mod levels;
mod markdown;
mod merge;
mod qualification;
mod record;
#[cfg(test)]
mod samples;
mod selftest;
mod suite;
mod terminal;
#[cfg(test)]
mod tests;
mod words;

pub use brief::Brief;
pub use curve::{curve, curve_csv};
pub use diff::diff;
pub use display::Display;
pub use html::{Evidence, html};
pub use journal::write_journal;
pub use junit::junit;
pub use kcidb::kcidb;
pub use ktap::ktap;
pub use levels::levels;
pub use markdown::markdown;
pub use merge::Merged;
pub use qualification::Qualification;
pub use record::{Record, Totals, json};
pub use selftest::{TestedFault, selftest_junit};
pub use suite::suite;
pub use terminal::{grid, summary};
pub use words::{command, end};
