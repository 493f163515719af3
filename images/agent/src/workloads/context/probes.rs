//! The findings of a step: its probes, its measurements, and what the host needs for its own observations.

use super::Context;
use crate::errno::success_or_errno;
use luqual_protocol::{Measure, PausedMachine, Probe, Reaches, VmReport, Written, frames};
use rustix::io::Errno;
use std::time::Duration;

impl Context {
    /// A probe that holds when both texts are equal.
    pub(crate) fn check(&mut self, name: impl Into<String>, expected: impl ToString, observed: impl ToString) {
        self.said.probes.push(Probe::compare(name, expected, observed));
    }

    /// A probe that holds when its condition does; `expected` says the condition in words.
    pub(crate) fn check_condition(&mut self, name: &str, expected: &str, observed: impl ToString, passed: bool) {
        let (expected, observed) = (expected.to_owned(), observed.to_string());
        self.said.probes.push(Probe { name: name.to_owned(), expected, observed, passed });
    }

    /// A probe that the kernel has refused a call with this errno.
    pub(crate) fn check_refused<T>(&mut self, name: &str, errno: &str, result: Result<T, Errno>) {
        self.check(name, errno, success_or_errno(&result, "no error"));
    }

    /// A probe that a call has succeeded.
    pub(crate) fn check_success<T>(&mut self, name: &str, result: Result<T, Errno>) {
        self.check(name, "no error", success_or_errno(&result, "no error"));
    }

    /// Adds probes that were made elsewhere.
    pub(crate) fn add_probes(&mut self, probes: Vec<Probe>) {
        self.said.probes.extend(probes);
    }

    /// Reports how long the kernel took for so much of something.
    pub(crate) fn measure(&mut self, what: &str, (size, unit): (u64, &str), took: Duration) {
        let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.said.measures.push(Measure { what: what.to_owned(), size, unit: unit.to_owned(), duration_us });
    }

    /// Tells the host of a paused machine, whose memory it watches.
    pub(crate) fn report_paused(&mut self, paused: PausedMachine) {
        self.said.paused = Some(paused);
    }

    /// Tells the host what a machine observed of the update.
    pub(crate) fn report_vm(&mut self, account: VmReport) {
        self.said.vm_reports.push(account);
    }

    /// Tells the host which preserved pages the device can reach.
    pub(crate) fn report_reaches(&mut self, reaches: Reaches) {
        self.said.reaches = Some(reaches);
    }

    /// Tells the host which numbered frames were received.
    pub(crate) fn report_frames(&mut self, numbers: Vec<u32>) {
        self.said.frames = frames::runs(numbers);
    }

    /// Tells the host what it has to find in the file behind the device.
    pub(crate) fn report_written(&mut self, written: Written) {
        self.said.written = Some(written);
    }
}
