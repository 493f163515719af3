//! Devices reached from outside of the guest, for faults that are planted on purpose: QEMU's qtest protocol (docs/devel/qtest.rst),
//! beside a guest that runs.

use crate::error::VmError;
use crate::pci::PciAddress;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// A connection.
pub(crate) struct Qtest(Mutex<BufReader<UnixStream>>);

/// The ports of PCI's configuration mechanism (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

impl Qtest {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self(Mutex::new(BufReader::new(stream)))
    }

    /// Reads the word of a function's configuration space that has this offset.
    pub(crate) async fn config(&self, function: PciAddress, offset: u8) -> Result<u32, VmError> {
        let mut connection = self.0.lock().await;
        select(&mut connection, function, offset).await?;
        let said = ask(&mut connection, &format!("inl {CONFIG_DATA:#x}")).await?;
        let value = said.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        value.ok_or_else(|| failed(format!("`{said}` is no value")))
    }

    /// Writes it.
    pub(crate) async fn set_config(&self, function: PciAddress, offset: u8, value: u32) -> Result<(), VmError> {
        let mut connection = self.0.lock().await;
        select(&mut connection, function, offset).await?;
        ask(&mut connection, &format!("outl {CONFIG_DATA:#x} {value:#x}")).await.map(drop)
    }

    /// Writes eight bytes at a guest-physical address, such as a register's.
    pub(crate) async fn write(&self, address: u64, value: u64) -> Result<(), VmError> {
        ask(&mut *self.0.lock().await, &format!("writeq {address:#x} {value:#x}")).await.map(drop)
    }
}

async fn select(connection: &mut BufReader<UnixStream>, function: PciAddress, offset: u8) -> Result<(), VmError> {
    let PciAddress { bus, slot, function } = function;
    let place = u32::from(bus) << 16 | u32::from(slot) << 11 | u32::from(function) << 8 | u32::from(offset & !3);
    ask(connection, &format!("outl {CONFIG_ADDRESS:#x} {:#x}", 1 << 31 | place)).await.map(drop)
}

/// One command; what comes after `OK` in its answer. Lines about interrupts come unasked.
async fn ask(connection: &mut BufReader<UnixStream>, command: &str) -> Result<String, VmError> {
    connection.write_all(format!("{command}\n").as_bytes()).await.map_err(|error| failed(error.to_string()))?;
    loop {
        let mut line = String::new();
        let length = connection.read_line(&mut line).await.map_err(|error| failed(error.to_string()))?;
        if length == 0 {
            return Err(failed(format!("{command}: QEMU went away before it answered")));
        }
        if line.starts_with("IRQ ") {
            continue;
        }
        let said = line.trim_end();
        return said
            .strip_prefix("OK")
            .map(|rest| rest.trim_start().to_owned())
            .ok_or_else(|| failed(format!("{command}: {said}")));
    }
}

fn failed(why: String) -> VmError {
    VmError::Qmp { command: "qtest".to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
