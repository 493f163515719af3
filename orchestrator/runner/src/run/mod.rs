//! A whole run: which cells share a boot, the order of the boots, repetitions, and the combination of attempts.

mod all;
mod attempts;
mod attribution;
mod boot;
mod grouping;
mod schedule;

pub use all::run_all;
pub use boot::run_boot;
pub use grouping::group_cells;
pub use schedule::{Arrival, Load, Slots};

#[cfg(test)]
pub(crate) use attempts::tests;
