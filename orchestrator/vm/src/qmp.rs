//! QMP with a reader of our own: qapi's types for what we ask, and any event that QEMU likes to send.

use crate::error::VmError;
use crate::machine::MachineEnd;
use qapi::Command;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinHandle;

type Waiting = Arc<Mutex<VecDeque<oneshot::Sender<Value>>>>;
/// Whether a stop of the machine is asked for.
type Stops = Arc<AtomicBool>;

/// A connection that is past its greeting.
pub(crate) struct Qmp {
    writer: AsyncMutex<OwnedWriteHalf>,
    waiting: Waiting,
    stops: Stops,
    log: Log,
}

impl Qmp {
    /// Negotiates. `on_end` hears of what ends a machine, to which a stop does not belong if there is a debugger; the reader ends when
    /// QEMU does.
    pub(crate) async fn connect(
        stream: UnixStream,
        log: Log,
        debugged: bool,
        mut on_end: impl FnMut(MachineEnd) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), VmError> {
        let (reader, writer) = stream.into_split();
        let (waiting, stops) = (Waiting::default(), Stops::new(debugged.into()));
        let reading = tokio::spawn({
            let (waiting, stops, log) = (waiting.clone(), stops.clone(), log.clone());
            async move {
                let mut lines = BufReader::new(reader).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    log.write("received", &line);
                    let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                    if let Some(end) = ending(&message, stops.load(Ordering::SeqCst)) {
                        on_end(end);
                    } else if message.get("return").is_some() || message.get("error").is_some() {
                        let asker = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let _ = asker.map(|asker| asker.send(message));
                    }
                }
                // Nobody will be answered any more.
                waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        });
        let qmp = Self { writer: AsyncMutex::new(writer), waiting, stops, log };
        qmp.ask(qapi::qmp::qmp_capabilities { enable: None }).await?;
        Ok((qmp, reading))
    }

    /// Runs a command and waits for its answer; QMP answers in the order of the questions.
    pub(crate) async fn ask<C: Command>(&self, command: C) -> Result<C::Ok, VmError> {
        let failed = |why: String| VmError::Qmp { command: C::NAME.to_owned(), why };
        let mut text = serde_json::to_string(&qapi::Execute::<_, u32>::from(command))
            .map_err(|error| failed(error.to_string()))?;
        self.log.write("sent", &text);
        text.push('\n');
        let (sender, answer) = oneshot::channel();
        {
            let mut writer = self.writer.lock().await;
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(sender);
            writer.write_all(text.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
        }
        let mut answer = answer.await.map_err(|_| failed("QEMU went away before it answered".to_owned()))?;
        if let Some(error) = answer.get("error") {
            return Err(failed(error.to_string()));
        }
        serde_json::from_value(answer["return"].take()).map_err(|error| failed(error.to_string()))
    }

    /// From now on a machine that is stopped has not ended.
    pub(crate) fn expect_stops(&self) {
        self.stops.store(true, Ordering::SeqCst);
    }

    /// Runs a command of the human monitor.
    pub(crate) async fn hmp(&self, line: &str) -> Result<String, VmError> {
        let command_line = line.to_owned();
        self.ask(qapi::qmp::human_monitor_command { command_line, cpu_index: None }).await
    }
}

/// What an event says of the machine's end (QEMU qapi/run-state.json), which a stop that is asked for is not.
fn ending(message: &Value, stops: bool) -> Option<MachineEnd> {
    let data = &message["data"];
    match message["event"].as_str()? {
        "GUEST_PANICKED" => Some(MachineEnd::Panicked),
        "RESET" => Some(MachineEnd::Reset),
        "SHUTDOWN" => Some(match data["reason"].as_str().unwrap_or_default() {
            "guest-reset" => MachineEnd::Reset,
            "guest-panic" => MachineEnd::Panicked,
            "guest-shutdown" => MachineEnd::PoweredOff,
            reason => MachineEnd::Qemu(format!("QEMU was shut down: {reason}")),
        }),
        "STOP" if stops => None,
        // Nobody asked for it: QEMU did it, and says why on its standard error.
        "STOP" => Some(MachineEnd::Qemu("QEMU stopped the machine by itself".to_owned())),
        _ => None,
    }
}

/// `qmp.jsonl`: `{"at_us": …, "sent" | "received": …}`, a line each.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) file: Arc<File>,
    pub(crate) started: Instant,
}

impl Log {
    fn write(&self, what: &str, line: &str) {
        let at_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let message = serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
        // Evidence beside the record: a full disk is told by the record itself.
        let _ = writeln!(&*self.file, "{}", serde_json::json!({ "at_us": at_us, what: message }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_that_end_a_machine() {
        let shutdown = |reason| json!({"event": "SHUTDOWN", "data": {"guest": true, "reason": reason}});
        assert_eq!(ending(&shutdown("guest-reset"), false), Some(MachineEnd::Reset));
        assert_eq!(ending(&shutdown("guest-shutdown"), false), Some(MachineEnd::PoweredOff));
        assert!(matches!(ending(&shutdown("host-signal"), false), Some(MachineEnd::Qemu(_))));
        assert_eq!(ending(&json!({"event": "GUEST_PANICKED"}), false), Some(MachineEnd::Panicked));
        assert_eq!(ending(&json!({"event": "RESET", "data": {"guest": true}}), false), Some(MachineEnd::Reset));
    }

    #[test]
    fn events_that_nobody_knows_are_no_end() {
        assert_eq!(ending(&json!({"event": "SOMETHING_NEW", "data": 7}), false), None);
        assert_eq!(ending(&json!({"event": "RESUME"}), false), None);
        assert_eq!(ending(&json!({"return": {}}), false), None);
    }

    #[test]
    fn a_stop_is_an_end_unless_it_is_asked_for() {
        let stop = json!({"event": "STOP"});
        assert!(matches!(ending(&stop, false), Some(MachineEnd::Qemu(_))));
        assert_eq!(ending(&stop, true), None);
        assert_eq!(ending(&json!({"event": "GUEST_PANICKED"}), true), Some(MachineEnd::Panicked));
    }
}
