//! How a user ends a command: by Ctrl-C (SIGINT), by `kill` or a job's end (SIGTERM), or by closing the terminal (SIGHUP). Each ends
//! it in order, with one exit code.

use crate::exit::Exit;

use std::io::{self, Write};
use std::sync::atomic::{AtomicI32, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The first that came; zero before that.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// Turns true with the first signal. The next SIGINT or SIGTERM is not waited for; `announce` says so.
pub(crate) fn listen(announce: bool) -> io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        // As nohup wants it.
        if kind == SignalKind::hangup() && is_ignored(kind) {
            continue;
        }
        let (sender, mut signals) = (sender.clone(), signal(kind)?);
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let number = kind.as_raw_value();
                let is_first = RECEIVED.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst).is_ok();
                if is_first && announce {
                    // Whoever does not look any more misses it.
                    let _ = io::stderr()
                        .write_all(b"the run ends and its reports are written; press Ctrl-C again to stop at once\n");
                }
                // A terminal that is closed may say so several times.
                if !is_first && kind != SignalKind::hangup() {
                    std::process::exit(Exit::Interrupted as i32);
                }
                // Nobody listens any more once the command has ended.
                let _ = sender.send(true);
            }
        });
    }
    Ok(receiver)
}

/// Whether the terminal is gone.
pub(crate) fn has_hung_up() -> bool {
    RECEIVED.load(Ordering::SeqCst) == SignalKind::hangup().as_raw_value()
}

/// Whether this process was started to ignore it (proc_pid_status(5), SigIgn).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    /// One test, since a process has one set of signals.
    #[tokio::test]
    async fn each_signal_ends_it_in_order() {
        let mut interrupt = listen(false).unwrap();
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            RECEIVED.store(0, Ordering::SeqCst);
            kill_process(getpid(), signal).unwrap();
            interrupt.changed().await.unwrap();
            assert!(*interrupt.borrow_and_update(), "{signal:?}");
            assert_eq!(has_hung_up(), signal == Signal::HUP);
        }
        // A second hangup changes nothing.
        kill_process(getpid(), Signal::HUP).unwrap();
        interrupt.changed().await.unwrap();
    }
}
