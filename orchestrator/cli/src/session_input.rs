//! Somebody at a guest's prompt: at a terminal, or by lines that were left to be typed.

use crate::output::tell;
use crate::terminal::{self, Raw};
use luqual_guest::{Agent, LinkError, Typed};
use luqual_protocol::Prompt;
use luqual_runner::{SessionFuture, SessionHandler};
use tokio::sync::{Mutex, mpsc};

/// Where somebody sits, or has left what to do.
pub(crate) enum SessionInput {
    Terminal(Mutex<Option<mpsc::Receiver<Typed>>>),
    Lines(Mutex<Option<mpsc::Receiver<String>>>),
}

impl SessionInput {
    pub(crate) fn new() -> Self {
        if terminal::is_there() { Self::Terminal(Mutex::default()) } else { Self::Lines(Mutex::default()) }
    }
}

impl SessionHandler for SessionInput {
    fn visit<'a>(&'a self, agent: &'a Agent, prompt: &'a Prompt) -> SessionFuture<'a> {
        Box::pin(async move {
            match self {
                Self::Terminal(typed) => {
                    converse(agent, prompt, typed.lock().await.get_or_insert_with(terminal::typed)).await
                }
                Self::Lines(lines) => {
                    follow(agent, prompt, lines.lock().await.get_or_insert_with(terminal::lines)).await
                }
            }
        })
    }
}

async fn converse(agent: &Agent, prompt: &Prompt, typed: &mut mpsc::Receiver<Typed>) -> Result<(), LinkError> {
    let kind = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    // What led here is told first.
    tokio::task::yield_now().await;
    tell("`help` lists the commands; Ctrl-D ends the session\n");
    // A terminal that cannot be set types lines, which the guest's prompt takes too.
    let _raw = Raw::begin();
    agent.shell(prompt, (&kind, terminal::size()), typed, terminal::show).await
}

/// One line after the other; what comes after a kexec is for the next kernel.
async fn follow(agent: &Agent, prompt: &Prompt, lines: &mut mpsc::Receiver<String>) -> Result<(), LinkError> {
    while let Some(line) = lines.recv().await {
        if line.trim() == "exit" {
            break;
        }
        let output = agent.line(prompt, &line).await?;
        terminal::show(&output.stdout);
        tell(String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
