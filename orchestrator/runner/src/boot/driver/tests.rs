//! The driver on a fake machine: each way in which a phase can end, and each race. The clock is the test's.

mod races;
mod trial;
mod ways;
