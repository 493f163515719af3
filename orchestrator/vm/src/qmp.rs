//! A QMP client: qapi's types for the commands, and a reader that accepts any event.

use crate::end::MachineEnd;
use crate::error::VmError;
use luqual_model::bounds::QEMU_FILE;
use qapi::{Command, Execute};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Whether a stop of the machine is expected.
type Stops = Arc<AtomicBool>;

/// A connection after its greeting.
///
/// Commands have no deadline here: the caller bounds the time, and can give up at any moment. The connection then
/// remains usable: the command is sent completely, and its answer is dropped.
pub(crate) struct Qmp {
    /// Sends lines to the writing task.
    lines: mpsc::UnboundedSender<String>,
    pending: Pending,
    next_id: AtomicU64,
    stops: Stops,
    log: Log,
}

impl Qmp {
    /// Negotiates the connection. `on_end` gets the event that ends the machine; a stop is not such an event if there
    /// is a debugger. The reader ends with QEMU.
    pub(crate) async fn connect(
        stream: UnixStream,
        log: Log,
        debugged: bool,
        on_end: impl FnMut(MachineEnd) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), VmError> {
        let (reader, writer) = stream.into_split();
        let (pending, stops) = (Pending::default(), Stops::new(debugged.into()));
        let reading = tokio::spawn(read(reader, log.clone(), pending.clone(), stops.clone(), on_end));
        let (lines, to_write) = mpsc::unbounded_channel();
        tokio::spawn(write(writer, to_write));
        let qmp = Self { lines, pending, next_id: AtomicU64::new(1), stops, log };
        qmp.ask(qapi::qmp::qmp_capabilities { enable: None }).await?;
        Ok((qmp, reading))
    }

    /// Runs a command and waits for its answer, which has the same id.
    pub(crate) async fn ask<C: Command>(&self, command: C) -> Result<C::Ok, VmError> {
        let failed = |why: String| VmError::Qmp { command: C::NAME.to_owned(), why };
        let gone = || failed("QEMU closed the connection before it answered".to_owned());
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let text = serde_json::to_string(&Execute::with_id(command, id)).map_err(|error| failed(error.to_string()))?;
        let (_asked, answer) = self.pending.add(id).ok_or_else(gone)?;
        self.log.write("sent", &text);
        self.lines.send(text + "\n").map_err(|_| gone())?;
        let mut answer = answer.await.map_err(|_| gone())?;
        if let Some(error) = answer.get("error") {
            return Err(failed(error.to_string()));
        }
        serde_json::from_value(answer["return"].take()).map_err(|error| failed(error.to_string()))
    }

    /// From now on a stop does not count as the machine's end.
    pub(crate) fn expect_stops(&self) {
        self.stops.store(true, Ordering::SeqCst);
    }

    /// Runs a command of the human monitor.
    pub(crate) async fn hmp(&self, line: &str) -> Result<String, VmError> {
        let command_line = line.to_owned();
        self.ask(qapi::qmp::human_monitor_command { command_line, cpu_index: None }).await
    }
}

/// Reads QEMU's messages until the connection ends.
async fn read(
    reader: OwnedReadHalf,
    log: Log,
    pending: Pending,
    stops: Stops,
    mut on_end: impl FnMut(MachineEnd) + Send,
) {
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.write("received", &line);
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(end) = ending(&message, stops.load(Ordering::SeqCst)) {
            on_end(end);
        } else if message.get("return").is_some() || message.get("error").is_some() {
            pending.answer(message);
        }
    }
    pending.close();
}

/// Writes each command completely, even if its caller has given up.
async fn write(mut writer: OwnedWriteHalf, mut lines: mpsc::UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        // The reader reports the error to the callers.
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

type Askers = HashMap<u64, oneshot::Sender<Value>>;

/// The callers that wait for an answer, by the command's id; `None` after the connection has ended.
#[derive(Clone)]
struct Pending(Arc<Mutex<Option<Askers>>>);

impl Default for Pending {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Askers::new()))))
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Option<Askers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a command. Returns a receiver for its answer; `None` after the connection has ended.
    fn add(&self, id: u64) -> Option<(Asked, oneshot::Receiver<Value>)> {
        let (sender, answer) = oneshot::channel();
        self.lock().as_mut()?.insert(id, sender);
        Some((Asked { id, pending: self.clone() }, answer))
    }

    /// Delivers an answer. An answer that no caller waits for is dropped.
    fn answer(&self, message: Value) {
        let asker = message["id"].as_u64().and_then(|id| self.lock().as_mut()?.remove(&id));
        let _ = asker.map(|asker| asker.send(message));
    }

    fn close(&self) {
        *self.lock() = None;
    }
}

/// A command that waits for its answer. Dropping it drops the answer.
struct Asked {
    id: u64,
    pending: Pending,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.lock().as_mut() {
            pending.remove(&self.id);
        }
    }
}

/// The machine's end from an event (QEMU qapi/run-state.json); an expected stop is not one.
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
        // QEMU stopped the machine by itself; its standard error has the reason.
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
        // Errors are ignored; a full disk also fails the record.
        if self.file.metadata().is_ok_and(|about| about.len() < QEMU_FILE) {
            let _ = writeln!(&*self.file, "{}", serde_json::json!({ "at_us": at_us, what: message }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    /// QEMU's end of a connection.
    struct Fake(BufReader<UnixStream>);

    impl Fake {
        /// The command's id, and the line of the human monitor that it has.
        async fn hears(&mut self) -> (Value, String) {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let command: Value = serde_json::from_str(&line).unwrap();
            let monitor = command["arguments"]["command-line"].as_str().unwrap_or_default().to_owned();
            (command["id"].clone(), monitor)
        }

        async fn says(&mut self, message: Value) {
            self.0.write_all(format!("{message}\r\n").as_bytes()).await.unwrap();
        }
    }

    async fn connected() -> (Qmp, Fake) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut fake = Fake(BufReader::new(theirs));
        let log = Log { file: Arc::new(tempfile::tempfile().unwrap()), started: Instant::now() };
        let negotiated = async {
            fake.says(json!({"QMP": {"version": {}}})).await;
            let (id, _) = fake.hears().await;
            fake.says(json!({"return": {}, "id": id})).await;
            fake
        };
        let (connected, fake) = tokio::join!(Qmp::connect(ours, log, false, |_| {}), negotiated);
        (connected.unwrap().0, fake)
    }

    /// For what must not hang.
    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), future).await.expect("it hangs")
    }

    #[tokio::test]
    async fn an_answer_goes_to_the_one_who_asked() {
        let (qmp, mut fake) = connected().await;
        let answers = async {
            let (first, second) = (fake.hears().await, fake.hears().await);
            assert_eq!((first.1.as_str(), second.1.as_str()), ("one", "two"));
            fake.says(json!({"return": "of nobody", "id": 4711})).await;
            fake.says(json!({"return": "without an id"})).await;
            fake.says(json!({"event": "SOMETHING"})).await;
            fake.says(json!({"return": "to two", "id": second.0})).await;
            fake.says(json!({"error": {"class": "GenericError", "desc": "to one"}, "id": first.0})).await;
        };
        let (one, two, ()) = soon(async { tokio::join!(qmp.hmp("one"), qmp.hmp("two"), answers) }).await;
        assert_eq!(two.unwrap(), "to two");
        assert!(one.unwrap_err().to_string().contains("to one"));
    }

    #[tokio::test]
    async fn a_command_that_was_given_up_leaves_the_connection_usable() {
        let (qmp, mut fake) = connected().await;
        assert!(tokio::time::timeout(Duration::from_millis(20), qmp.hmp("slow")).await.is_err());
        let answers = async {
            let slow = fake.hears().await;
            let next = fake.hears().await;
            fake.says(json!({"return": "late", "id": slow.0})).await;
            fake.says(json!({"return": "in time", "id": next.0})).await;
        };
        let (next, ()) = soon(async { tokio::join!(qmp.hmp("next"), answers) }).await;
        assert_eq!(next.unwrap(), "in time");
        assert!(qmp.pending.lock().as_ref().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_qemu_that_is_gone_is_told_to_whoever_asks() {
        let (qmp, mut fake) = connected().await;
        let gone = async {
            fake.hears().await;
            drop(fake);
        };
        let (asked, ()) = soon(async { tokio::join!(qmp.hmp("before"), gone) }).await;
        assert!(asked.unwrap_err().to_string().contains("closed the connection"));
        assert!(soon(qmp.hmp("after")).await.is_err());
    }

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
