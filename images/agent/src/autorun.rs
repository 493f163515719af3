//! Requests from a file instead of from a host: for a guest that nobody talks to, such as the bench's baseline.

use luqual_protocol::{AUTORUN as FILE, Request};

/// Does all of them, prints each reply on the console, and powers the machine off.
pub(crate) fn run() -> Result<(), String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    for line in text.lines() {
        let reply = match serde_json::from_str::<Request>(line) {
            Ok(request) => crate::call::answer(&request),
            Err(error) => luqual_protocol::Reply::Failed { message: format!("{FILE}: {error}") },
        };
        // Not by the kernel's log, whose lines end after 1 KiB.
        println!("luqual-agent: {}", serde_json::to_string(&reply).map_err(|error| error.to_string())?);
    }
    rustix::system::reboot(rustix::system::RebootCommand::PowerOff).map_err(|errno| format!("power off: {errno}"))
}
