//! Accesses devices from outside of a running guest, to inject faults: QEMU's qtest protocol (docs/devel/qtest.rst).

use crate::error::VmError;
use luqual_model::PciAddress;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// A connection.
///
/// qtest's answers have no ids and come in order, so that a task completes each request. A caller can give up at any
/// moment, and the next one still gets its own answer. Requests have no deadline here; the caller bounds the time.
pub(crate) struct Qtest(mpsc::UnboundedSender<Request>);

/// Commands that must not be interleaved with others.
struct Request {
    commands: Vec<String>,
    /// Gets the answer to the last command, or the first error.
    answer: oneshot::Sender<Result<String, VmError>>,
}

/// The ports of PCI's configuration mechanism (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

impl Qtest {
    pub(crate) fn new(stream: UnixStream) -> Self {
        let (requests, asked) = mpsc::unbounded_channel();
        tokio::spawn(serve(stream, asked));
        Self(requests)
    }

    /// Reads a word of a function's configuration space at `offset`.
    pub(crate) async fn config(&self, function: PciAddress, offset: u8) -> Result<u32, VmError> {
        let said = self.ask(vec![select(function, offset), format!("inl {CONFIG_DATA:#x}")]).await?;
        let value = said.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        value.ok_or_else(|| failed(format!("QEMU answered `{said}` instead of a value")))
    }

    /// Writes a word of a function's configuration space at `offset`.
    pub(crate) async fn set_config(&self, function: PciAddress, offset: u8, value: u32) -> Result<(), VmError> {
        self.ask(vec![select(function, offset), format!("outl {CONFIG_DATA:#x} {value:#x}")]).await.map(drop)
    }

    /// Writes eight bytes at a guest-physical address, such as a register's.
    pub(crate) async fn write(&self, address: u64, value: u64) -> Result<(), VmError> {
        self.ask(vec![format!("writeq {address:#x} {value:#x}")]).await.map(drop)
    }

    async fn ask(&self, commands: Vec<String>) -> Result<String, VmError> {
        let gone = || failed("QEMU closed the connection before it answered".to_owned());
        let (answer, answered) = oneshot::channel();
        self.0.send(Request { commands, answer }).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn select(PciAddress { bus, slot, function }: PciAddress, offset: u8) -> String {
    let place = u32::from(bus) << 16 | u32::from(slot) << 11 | u32::from(function) << 8 | u32::from(offset & !3);
    format!("outl {CONFIG_ADDRESS:#x} {:#x}", 1 << 31 | place)
}

/// Handles one request after the other, until all senders are dropped or QEMU has ended.
async fn serve(stream: UnixStream, mut asked: mpsc::UnboundedReceiver<Request>) {
    let mut connection = BufReader::new(stream);
    while let Some(Request { commands, answer }) = asked.recv().await {
        // A request that was given up before its start is skipped.
        if answer.is_closed() {
            continue;
        }
        let mut said = Ok(String::new());
        for command in commands {
            match run(&mut connection, &command).await {
                Ok(answer) => said = answer,
                // The channel ends with this task, which reports the error to all callers.
                Err(_) => return,
            }
            if said.is_err() {
                break;
            }
        }
        let _ = answer.send(said);
    }
}

/// Runs one command. Returns the text after `OK`, or QEMU's error. Lines about interrupts are skipped.
async fn run(connection: &mut BufReader<UnixStream>, command: &str) -> std::io::Result<Result<String, VmError>> {
    connection.write_all(format!("{command}\n").as_bytes()).await?;
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line.starts_with("IRQ ") {
            continue;
        }
        let said = line.trim_end();
        let rest = said.strip_prefix("OK").map(|rest| rest.trim_start().to_owned());
        return Ok(rest.ok_or_else(|| failed(format!("{command}: {said}"))));
    }
}

fn failed(why: String) -> VmError {
    VmError::Qmp { command: "qtest".to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_function_is_selected_and_its_word_is_read_past_interrupts() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let qtest = Qtest::new(ours);
        let served = tokio::spawn(async move {
            let mut lines = BufReader::new(theirs);
            let mut heard = Vec::new();
            for answer in ["OK\n", "IRQ raise 3\nOK 0x00100107\n", "FAIL Unknown command\n"] {
                let mut line = String::new();
                lines.read_line(&mut line).await.unwrap();
                heard.push(line.trim_end().to_owned());
                lines.write_all(answer.as_bytes()).await.unwrap();
            }
            heard
        });
        let function = PciAddress { bus: 1, slot: 2, function: 3 };
        assert_eq!(qtest.config(function, 6).await.unwrap(), 0x0010_0107);
        let error = qtest.write(0x1000, 1).await.unwrap_err();
        assert!(error.to_string().contains("writeq 0x1000 0x1: FAIL Unknown command"), "{error}");
        assert_eq!(served.await.unwrap(), ["outl 0xcf8 0x80011304", "inl 0xcfc", "writeq 0x1000 0x1"]);
    }
    #[tokio::test]
    async fn a_request_that_was_given_up_does_not_get_in_the_way_of_the_next() {
        let long = Duration::from_secs(10);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (qtest, mut qemu) = (Qtest::new(ours), BufReader::new(theirs));
        let function = PciAddress { bus: 0, slot: 1, function: 0 };
        // Cut off between its two commands, and once before it began.
        assert!(timeout(Duration::from_millis(20), qtest.config(function, 4)).await.is_err());
        assert!(timeout(Duration::from_millis(20), qtest.write(0x2000, 2)).await.is_err());
        let served = async {
            let mut heard = Vec::new();
            for answer in ["OK\n", "OK 0x1\n", "OK\n", "OK 0x2\n"] {
                let mut line = String::new();
                qemu.read_line(&mut line).await.unwrap();
                heard.push(line.trim_end().to_owned());
                qemu.write_all(answer.as_bytes()).await.unwrap();
            }
            heard
        };
        let (value, heard) = timeout(long, async { tokio::join!(qtest.config(function, 8), served) }).await.unwrap();
        assert_eq!(value.unwrap(), 2);
        assert_eq!(heard, ["outl 0xcf8 0x80000804", "inl 0xcfc", "outl 0xcf8 0x80000808", "inl 0xcfc"]);
        drop(qemu);
        let error = timeout(long, qtest.write(0x1000, 1)).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("closed the connection"), "{error}");
    }
}
