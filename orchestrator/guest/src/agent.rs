//! The client of the agent: sends requests and receives replies, and logs both to the cell's `agent.jsonl`.

use crate::keys::Keys;
use crate::link::{Link, LinkError, Output, Size, Typed};
use luqual_model::bounds::{AGENT_LOG, PROBE_TEXT, cut};
use luqual_protocol::{AGENT, PROMPT, Prompt, Reply, Request};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use tokio::sync::mpsc;

/// A connected agent.
pub struct Agent {
    link: Link,
    log: AgentLog,
}

impl Agent {
    /// Connects to the agent through the forwarded `port`.
    pub async fn connect(port: u16, keys: &Keys, log: AgentLog) -> Result<Self, LinkError> {
        Ok(Self { link: Link::connect(port, keys).await?, log })
    }

    /// Injects a fault by a role of the agent, such as `kill serve` or `panic`. A connection that ends with the fault
    /// is not an error.
    pub async fn inject(&self, fault: &str) -> Result<Output, LinkError> {
        self.log.write("inject", &fault.into());
        self.link.exec(&format!("{AGENT} {fault}"), &[], b"").await
    }

    /// Connects the guest's prompt to the user's terminal, until the prompt or the input ends.
    pub async fn shell(
        &self,
        prompt: &Prompt,
        terminal: (&str, Size),
        typed: &mut mpsc::Receiver<Typed>,
        show: impl FnMut(&[u8]),
    ) -> Result<(), LinkError> {
        let prompt = serde_json::to_string(prompt).unwrap_or_default();
        self.log.write("shell", &prompt.as_str().into());
        self.link.shell(&[(PROMPT, &prompt)], terminal, typed, show).await.map(drop)
    }

    /// Runs one line at the guest's prompt, and returns its output.
    pub async fn line(&self, prompt: &Prompt, line: &str) -> Result<Output, LinkError> {
        self.log.write("line", &line.into());
        let prompt = serde_json::to_string(prompt).unwrap_or_default();
        // Only a NUL cannot be quoted; the line is then empty.
        let command = shlex::try_join([AGENT, "shell", "-c", line]).unwrap_or_default();
        self.link.exec(&command, &[(PROMPT, &prompt)], b"").await
    }

    /// Sends a request. Output that is not a reply is returned as [`Reply::failed`].
    pub async fn ask(&self, request: &Request) -> Result<Reply, LinkError> {
        self.log.write("request", &serde_json::to_value(request).unwrap_or_default());
        let mut text = serde_json::to_vec(request).unwrap_or_default();
        text.push(b'\n');
        let output = self.link.exec(&format!("{AGENT} call"), &[], &text).await.inspect_err(|error| {
            self.log.write("error", &error.to_string().into());
        })?;
        let reply = read_reply(output.status, &output.stdout, &output.stderr);
        self.log.write("reply", &serde_json::to_value(&reply).unwrap_or_default());
        Ok(reply)
    }
}

fn read_reply(status: u32, stdout: &[u8], stderr: &[u8]) -> Reply {
    match serde_json::from_slice(stdout) {
        Ok(reply) if status == 0 => reply,
        _ => Reply::failed(format!(
            "the agent exited with status {status} and wrote `{}` and, on standard error, `{}`",
            cut(String::from_utf8_lossy(stdout).trim_end(), PROBE_TEXT),
            cut(String::from_utf8_lossy(stderr).trim_end(), PROBE_TEXT)
        )),
    }
}

/// `agent.jsonl`: `{"at_us": …, "request" | "reply" | "error": …}`, a line each.
#[derive(Clone)]
pub struct AgentLog {
    file: std::sync::Arc<File>,
    started: Instant,
}

impl AgentLog {
    /// Times in it are microseconds since `started`.
    pub fn create(path: &Path, started: Instant) -> std::io::Result<Self> {
        Ok(Self { file: std::sync::Arc::new(File::create(path)?), started })
    }

    fn write(&self, what: &str, value: &serde_json::Value) {
        let at_us = self.started.elapsed().as_micros() as u64;
        if self.file.metadata().is_ok_and(|about| about.len() >= AGENT_LOG) {
            return;
        }
        // Errors are ignored; a full disk also fails the record.
        let _ = writeln!(&*self.file, "{}", serde_json::json!({ "at_us": at_us, what: value }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_protocol::{NotDone, Said};

    #[test]
    fn only_a_whole_reply_of_a_command_that_succeeded_counts() {
        let done = br#"{"reply":"done","probes":[],"taint":0}"#;
        assert_eq!(read_reply(0, done, b""), Reply::Done { said: Said::default(), taint: 0 });
        let fails = |reply, why: &str| match reply {
            Reply::NotDone { why: NotDone::Failed { message }, .. } => message.contains(why),
            _ => false,
        };
        assert!(fails(read_reply(137, done, b""), "137"));
        assert!(fails(read_reply(0, b"", b"no such request"), "no such"));
        let flood = vec![b'x'; 1 << 20];
        let Reply::NotDone { why: NotDone::Failed { message }, .. } = read_reply(0, &flood, &flood) else {
            panic!("it is no reply")
        };
        assert!(message.len() < 3 * PROBE_TEXT, "{}", message.len());
    }
}
