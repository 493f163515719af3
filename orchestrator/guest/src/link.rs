//! SSH to the guest: one connection, one command per channel.

use crate::keys::Keys;
use luqual_model::bounds::REPLY;
use russh::client::{self, Handle, Handler};
use russh::keys::{PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelMsg, Preferred, kex};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Why a connection or a command failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The TCP connection to QEMU's forwarded port failed.
    #[error("connect to 127.0.0.1:{port}")]
    Connect {
        /// The port on the host.
        port: u16,
        /// The cause.
        source: std::io::Error,
    },
    /// SSH itself failed.
    #[error("SSH: {doing}")]
    Ssh {
        /// The step.
        doing: &'static str,
        /// The cause.
        source: russh::Error,
    },
    /// The guest has another host key than this VM's, or refused the user's key.
    #[error("SSH: the guest refused the key that luqual made for it")]
    NotAuthenticated,
    /// The command printed more than [`REPLY`] bytes.
    #[error("SSH: the command printed more than {} MiB", REPLY >> 20)]
    TooMuch,
    /// The channel closed before the command ended.
    #[error("SSH: the connection ended before the command did")]
    Cut,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code, or 128 plus the number of the signal that ended it.
    pub status: u32,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The characters in a line.
    pub columns: u32,
    /// The number of lines.
    pub rows: u32,
}

/// Input from the user's terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Bytes from the terminal.
    Bytes(Vec<u8>),
    /// The terminal has a new size.
    Resized(Size),
}

/// A connection to a guest. Dropping it closes it.
pub struct Link {
    handle: Handle<Pinned>,
}

impl Link {
    /// Connects to the forwarded `port` on loopback, and verifies both keys. The caller bounds the time.
    pub async fn connect(port: u16, keys: &Keys) -> Result<Self, LinkError> {
        let connect = |source| LinkError::Connect { port, source };
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let config = Arc::new(client::Config {
            preferred: Preferred { kex: Cow::Borrowed(&[kex::CURVE25519]), ..Preferred::default() },
            inactivity_timeout: None,
            ..client::Config::default()
        });
        let pinned = Pinned { expected: keys.host_public().clone() };
        let mut handle = client::connect_stream(config, stream, pinned)
            .await
            .map_err(|source| LinkError::Ssh { doing: "key exchange", source })?;
        let key = PrivateKeyWithHashAlg::new(keys.client.clone(), None);
        let answer = handle
            .authenticate_publickey("root", key)
            .await
            .map_err(|source| LinkError::Ssh { doing: "authentication", source })?;
        if answer.success() { Ok(Self { handle }) } else { Err(LinkError::NotAuthenticated) }
    }

    /// Runs `command` (words as a shell splits them, no expansion) with `environment` added and `stdin` as its input.
    pub async fn exec(&self, command: &str, environment: &[(&str, &str)], stdin: &[u8]) -> Result<Output, LinkError> {
        let ssh = |doing| move |source| LinkError::Ssh { doing, source };
        let mut channel = self.handle.channel_open_session().await.map_err(ssh("open a channel"))?;
        for (name, value) in environment {
            channel.set_env(false, *name, *value).await.map_err(ssh("set the environment"))?;
        }
        channel.exec(false, command).await.map_err(ssh("start a command"))?;
        channel.data(stdin).await.map_err(ssh("write to a command"))?;
        channel.eof().await.map_err(ssh("write to a command"))?;
        let (mut status, mut stdout, mut stderr) = (None, Vec::new(), Vec::new());
        while let Some(message) = channel.wait().await {
            if stdout.len() + stderr.len() > REPLY {
                return Err(LinkError::TooMuch);
            }
            match message {
                ChannelMsg::Data { data } => stdout.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, ext: 1 } => stderr.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
        }
        // A closed connection does not mean that the command ended.
        status.map(|status| Output { status, stdout, stderr }).ok_or(LinkError::Cut)
    }

    /// Runs the guest's prompt in a terminal of this kind and size, until it ends or the input ends. Returns its exit
    /// status.
    pub async fn shell(
        &self,
        environment: &[(&str, &str)],
        (kind, size): (&str, Size),
        typed: &mut mpsc::Receiver<Typed>,
        mut show: impl FnMut(&[u8]),
    ) -> Result<u32, LinkError> {
        let ssh = |doing| move |source| LinkError::Ssh { doing, source };
        let mut channel = self.handle.channel_open_session().await.map_err(ssh("open a channel"))?;
        for (name, value) in environment {
            channel.set_env(false, *name, *value).await.map_err(ssh("set the environment"))?;
        }
        let Size { columns, rows } = size;
        channel.request_pty(false, kind, columns, rows, 0, 0, &[]).await.map_err(ssh("request a terminal"))?;
        channel.request_shell(false).await.map_err(ssh("request a prompt"))?;
        let mut status = None;
        loop {
            tokio::select! {
                message = channel.wait() => match message {
                    Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => show(&data),
                    Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
                    Some(_) => {}
                    None => return status.ok_or(LinkError::Cut),
                },
                what = typed.recv() => match what {
                    Some(Typed::Bytes(bytes)) => channel.data_bytes(bytes).await.map_err(ssh("write to the prompt"))?,
                    Some(Typed::Resized(Size { columns, rows })) => {
                        channel.window_change(columns, rows, 0, 0).await.map_err(ssh("setting the size of the terminal"))?;
                    }
                    None => return Ok(status.unwrap_or_default()),
                },
            }
        }
    }
}

struct Pinned {
    expected: PublicKey,
}

impl Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(matches!(key, PublicKeyOrCertificate::PublicKey { key, .. } if key.key_data() == self.expected.key_data()))
    }
}
