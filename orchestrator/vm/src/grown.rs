//! Bounds the files that QEMU writes by itself. QEMU has no limit for them, so their sizes are polled.

use crate::args::{ANSWERS, CONSOLE_RAW, TRACE};
use crate::qmp::Qmp;
use crate::trace::traced;
use luqual_model::bounds::QEMU_FILE;
use std::path::Path;
use std::time::Duration;

/// The period. A guest in a loop makes a megabyte of trace meanwhile.
const PERIOD: Duration = Duration::from_millis(100);

/// The file for QEMU's standard error, in the logs.
pub(crate) const STDERR: &str = "qemu.stderr";

/// Ends the trace of the devices when it is too large; whoever reads it sees by its size that it was cut. Returns when
/// another file is too large, with the reason: QEMU has to be ended then.
pub(crate) async fn too_large(qmp: &Qmp, logs: &Path) -> String {
    let mut is_traced = true;
    loop {
        tokio::time::sleep(PERIOD).await;
        let size = |name: &str| logs.join(name).metadata().map_or(0, |about| about.len());
        if let Some(why) = [(TRACE, 2 * QEMU_FILE), (STDERR, QEMU_FILE), (CONSOLE_RAW, QEMU_FILE), (ANSWERS, QEMU_FILE)]
            .into_iter()
            .find(|(name, most)| size(name) > *most)
        {
            return format!("luqual ended QEMU, since {} has more than {} MiB", why.0, why.1 >> 20);
        }
        if is_traced && size(TRACE) >= QEMU_FILE {
            is_traced = false;
            for event in traced() {
                // A QEMU that does not have the event does not trace it either.
                let _ = qmp.hmp(&format!("trace-event {event} off")).await;
            }
        }
    }
}
