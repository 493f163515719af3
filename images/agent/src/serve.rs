//! The SSH server: one user, one key, commands with environment, both output streams and an exit status, and a prompt at a terminal.

use crate::log::say_aloud;
use crate::pty;
use luqual_protocol::{AGENT, AUTHORIZED_KEY, HOST_KEY, READY_LINE, SSH_PORT};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId, ChannelMsg, ChannelWriteHalf, Preferred, Pty, kex};
use std::borrow::Cow;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{ChildStdin, Command};

/// Serves for ever.
pub(crate) fn run() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the async runtime: {error}"))?;
    runtime.block_on(serve())
}

async fn serve() -> Result<(), String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let host_key = PrivateKey::from_openssh(read(HOST_KEY)?).map_err(|error| format!("{HOST_KEY}: {error}"))?;
    let allowed =
        PublicKey::from_openssh(&read(AUTHORIZED_KEY)?).map_err(|error| format!("{AUTHORIZED_KEY}: {error}"))?;
    let config = Arc::new(Config {
        keys: vec![host_key],
        // The one exchange that both ends are sure to have and that costs least under emulation.
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
            // nodelay is ours to set: the configuration's is for sockets that russh accepts itself.
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

/// One command: its environment first, then its start, its input, its end.
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
            // A client that goes away does not end the command: a kexec has to go on without one.
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

/// Says why, and the exit status of that.
pub(crate) async fn not_started(outgoing: &ChannelWriteHalf<Msg>, why: &str) -> u32 {
    let _ = outgoing.extended_data_bytes(1, format!("luqual-agent: {why}\n")).await;
    127
}

/// The end of a channel.
pub(crate) async fn end(outgoing: &ChannelWriteHalf<Msg>, status: u32) {
    let _ = outgoing.eof().await;
    let _ = outgoing.exit_status(status).await;
    let _ = outgoing.close().await;
}

/// The exit code, or 128 plus the signal's number, as a shell tells it.
pub(crate) fn exit_status(status: std::process::ExitStatus) -> u32 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or(255).cast_unsigned()
}

fn spawn(command: &str, environment: Vec<(String, String)>) -> Result<tokio::process::Child, String> {
    spawn_on([Stdio::piped(), Stdio::piped(), Stdio::piped()], command, environment)
}

/// Starts a command on these: its input, its output, and where it complains.
pub(crate) fn spawn_on(
    [stdin, stdout, stderr]: [Stdio; 3],
    command: &str,
    environment: Vec<(String, String)>,
) -> Result<tokio::process::Child, String> {
    let words = shlex::split(command).ok_or_else(|| format!("`{command}`: a quote is not closed"))?;
    let (program, arguments) = words.split_first().ok_or("no command was given")?;
    Command::new(program)
        .args(arguments)
        .envs(environment)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))
}

async fn feed(stdin: &mut Option<ChildStdin>, data: &[u8]) {
    if let Some(pipe) = stdin
        && pipe.write_all(data).await.is_err()
    {
        // The command closed its input; what it does not want is dropped, as sshd does.
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
