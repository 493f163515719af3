//! What a kernel logs between the last request and the kexec: the host reads it from the kernel's memory.

use super::driver::BootDriver;
use crate::judge::Stop;
use crate::observe::{KernelOfLog, Ticks};
use luqual_protocol::KernelLog;
use std::fs::File;
use std::io::Write as _;

impl BootDriver<'_> {
    /// Reads the log of the kernel that runs from now on, after what it has told.
    pub(super) fn read_late_log(&mut self, told: &KernelLog) -> Result<(), Stop> {
        let kernel = self.boot.kernel(self.hop);
        let kernel = KernelOfLog { release: &kernel.info.release, symbols: kernel.symbols.as_deref(), told };
        let reader = self.machine()?.read_log(kernel).transpose();
        let reader = reader.map_err(|why| {
            Stop::Host(format!("the log of {} cannot be read from its memory: {why}", kernel.release))
        })?;
        self.late = reader.map(|reader| (self.hop, reader));
        Ok(())
    }

    /// Takes what the kernel that was left logged at its end. An error says that it was not heard to its end.
    pub(super) fn add_late_log(&mut self) -> Result<(), String> {
        let Some((hop, reader)) = self.late.take() else { return Ok(()) };
        let last_tick_us = self.ticks.get(hop as usize).map_or(0, Ticks::last_seen_us);
        let late = reader.end(last_tick_us)?;
        self.kernels.add_taint(hop, late.taint);
        let name = left_log(hop);
        let text = format!("{READ_BY_HOST}\n{}\n", late.lines.join("\n"));
        let file = File::options().create(true).append(true).open(self.logs().join(&name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| format!("{name}: {error}"))?;
        self.kernels.logs.push((hop, late.lines));
        Ok(())
    }
}

/// The file with the log of a kernel that was left.
pub(super) fn left_log(hop: u32) -> String {
    format!("kmsg-{hop}.log")
}

/// What separates it from what the guest told.
const READ_BY_HOST: &str = "… from here on, the host has read it from the kernel's memory …";
