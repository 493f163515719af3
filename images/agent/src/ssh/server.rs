//! The server itself: one user with one key, who runs commands (environment, both output streams, exit status), with or without
//! a terminal.

use super::command::{end, exit_status, not_started, spawn_on};
use super::pty;
use crate::log::say_aloud;
use luqual_protocol::{AGENT, AUTHORIZED_KEY, HOST_KEY, READY_LINE, SSH_PORT};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId, ChannelMsg, ChannelWriteHalf, Preferred, Pty, kex};
use std::borrow::Cow;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin};

/// `luqual-agent serve`: serves for ever.
pub(crate) fn run() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the async runtime cannot start: {error}"))?;
    runtime.block_on(serve())
}

async fn serve() -> Result<(), String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let host_key = PrivateKey::from_openssh(read(HOST_KEY)?).map_err(|error| format!("{HOST_KEY}: {error}"))?;
    let allowed =
        PublicKey::from_openssh(&read(AUTHORIZED_KEY)?).map_err(|error| format!("{AUTHORIZED_KEY}: {error}"))?;
    let config = Arc::new(Config {
        keys: vec![host_key],
        // Both ends have this key exchange, and it costs least under emulation.
        preferred: Preferred { kex: Cow::Borrowed(&[kex::CURVE25519]), ..Preferred::default() },
        nodelay: true,
        inactivity_timeout: None,
        ..Config::default()
    });
    let listener =
        TcpListener::bind(("0.0.0.0", SSH_PORT)).await.map_err(|error| format!("port {SSH_PORT}: {error}"))?;
    say_aloud(READY_LINE);
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| format!("accept: {error}"))?;
        let (config, client) = (config.clone(), Client { allowed: allowed.clone() });
        tokio::spawn(async move {
            // The configuration's nodelay applies only to sockets that russh accepts itself.
            let _ = stream.set_nodelay(true);
            if let Ok(session) = run_stream(config, stream, client).await {
                let _ = session.await;
            }
        });
    }
}

struct Client {
    allowed: PublicKey,
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(if key.public_key.key_data() == self.allowed.key_data() { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        tokio::spawn(run_channel(channel));
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }
}

/// Runs the command of one channel: the client sends the environment first, then the command, then its input.
async fn run_channel(channel: Channel<Msg>) {
    let (mut incoming, outgoing) = channel.split();
    let mut environment: Vec<(String, String)> = Vec::new();
    let mut size = None;
    let command = loop {
        match incoming.wait().await {
            Some(ChannelMsg::SetEnv { variable_name, variable_value, .. }) => {
                environment.push((variable_name, variable_value));
            }
            Some(ChannelMsg::RequestPty { term, col_width, row_height, .. }) => {
                environment.push(("TERM".to_owned(), term));
                size = Some((col_width, row_height));
            }
            Some(ChannelMsg::Exec { command, .. }) => break String::from_utf8_lossy(&command).into_owned(),
            Some(ChannelMsg::RequestShell { .. }) => break format!("{AGENT} shell"),
            Some(_) => {}
            None => return,
        }
    };
    let spawned = match size {
        Some(size) => return pty::run(&command, environment, size, incoming, outgoing).await,
        None => spawn(&command, environment),
    };
    let status = match spawned {
        Ok(mut child) => {
            let mut stdin = child.stdin.take();
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            // A client that disconnects does not end the command: a kexec has to continue without its client.
            let input = tokio::spawn(async move {
                while let Some(message) = incoming.wait().await {
                    match message {
                        ChannelMsg::Data { data } => feed(&mut stdin, &data).await,
                        ChannelMsg::Eof => stdin = None,
                        ChannelMsg::Close => break,
                        _ => {}
                    }
                }
            });
            tokio::join!(pump(stdout, &outgoing, None), pump(stderr, &outgoing, Some(1)));
            let status = child.wait().await;
            input.abort();
            status.map_or(255, exit_status)
        }
        Err(message) => not_started(&outgoing, &message).await,
    };
    end(&outgoing, status).await;
}

fn spawn(command: &str, environment: Vec<(String, String)>) -> Result<Child, String> {
    spawn_on([Stdio::piped(), Stdio::piped(), Stdio::piped()], command, environment)
}

async fn feed(stdin: &mut Option<ChildStdin>, data: &[u8]) {
    if let Some(pipe) = stdin
        && pipe.write_all(data).await.is_err()
    {
        // The command closed its input. Further input is dropped, as sshd does.
        *stdin = None;
    }
}

async fn pump(stream: Option<impl AsyncRead + Unpin>, to: &ChannelWriteHalf<Msg>, extended: Option<u32>) {
    let Some(mut stream) = stream else { return };
    let mut bytes = vec![0; 32 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        let data = bytes[..length].to_vec();
        let sent = match extended {
            None => to.data_bytes(data).await,
            Some(kind) => to.extended_data_bytes(kind, data).await,
        };
        if sent.is_err() {
            break;
        }
    }
}
