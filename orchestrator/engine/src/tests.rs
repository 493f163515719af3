//! Whole runs on machines that are not there ([`crate::fakes`]): what the engine makes of cells, whatever they do.

mod bisect;
mod forged;
mod interrupt;
mod late;
mod parts;
mod repro;
mod resume;
mod room;
mod run;
mod selftest;
mod slurm;
