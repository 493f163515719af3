//! A command at a pseudoterminal: the command has one end, the SSH client the other.

use super::command::{end, exit_status, not_started, spawn_on};
use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::mpsc;

/// Runs the command to its end, or kills it when the client disconnects.
pub(crate) async fn run(
    command: &str,
    environment: Vec<(String, String)>,
    size: (u32, u32),
    mut incoming: ChannelReadHalf,
    outgoing: ChannelWriteHalf<Msg>,
) {
    let status = match start(command, environment, size) {
        Ok(started) => talk(started, &mut incoming, &outgoing).await,
        Err(why) => Err(why),
    };
    let status = match status {
        Ok(status) => status,
        Err(why) => not_started(&outgoing, &why).await,
    };
    end(&outgoing, status).await;
}

/// Our end of a terminal, and the command at the other end.
struct Started {
    terminal: File,
    child: Child,
}

fn start(command: &str, environment: Vec<(String, String)>, size: (u32, u32)) -> Result<Started, String> {
    let (terminal, peer) = open().map_err(|errno| format!("a terminal: {errno}"))?;
    resize(&terminal, size);
    let peer = || peer.try_clone().map(Stdio::from).map_err(|error| format!("a terminal: {error}"));
    let child = spawn_on([peer()?, peer()?, peer()?], command, environment)?;
    Ok(Started { terminal, child })
}

/// Opens both ends of a new terminal (pty(7)).
fn open() -> rustix::io::Result<(File, File)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags)?;
    unlockpt(&terminal)?;
    let peer = ioctl_tiocgptpeer(&terminal, flags)?;
    Ok((terminal.into(), peer.into()))
}

fn resize(terminal: &File, (columns, rows): (u32, u32)) {
    let short = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    let size = Winsize { ws_col: short(columns), ws_row: short(rows), ws_xpixel: 0, ws_ypixel: 0 };
    // Best effort: a command also runs at a terminal of the wrong size.
    let _ = tcsetwinsize(terminal, size);
}

async fn talk(
    Started { terminal, mut child }: Started,
    incoming: &mut ChannelReadHalf,
    outgoing: &ChannelWriteHalf<Msg>,
) -> Result<u32, String> {
    let (mut said, typed) = ends(&terminal).map_err(|error| format!("a terminal: {error}"))?;
    let status = loop {
        tokio::select! {
            biased;
            bytes = said.recv() => match bytes {
                Some(bytes) => if outgoing.data_bytes(bytes).await.is_err() { break None },
                // No process has the other end open any more.
                None => break Some(child.wait().await),
            },
            status = child.wait() => break Some(status),
            message = incoming.wait() => match message {
                Some(ChannelMsg::Data { data }) => { let _ = typed.send(data.to_vec()).await; }
                Some(ChannelMsg::WindowChange { col_width, row_height, .. }) => {
                    resize(&terminal, (col_width, row_height));
                }
                Some(ChannelMsg::Close) | None => break None,
                Some(_) => {}
            },
        }
    };
    let status = match status {
        Some(status) => status,
        None => {
            // The kernel sends SIGHUP to the terminal's processes when their session leader dies.
            let _ = child.start_kill();
            child.wait().await
        }
    };
    // The last output of the command. Output of processes that it left behind is dropped.
    while let Ok(Some(bytes)) = tokio::time::timeout(DRAIN, said.recv()).await {
        let _ = outgoing.data_bytes(bytes).await;
    }
    Ok(status.map_or(255, exit_status))
}

type Bytes = Vec<u8>;

/// After the end of the command, a terminal that is silent for so long has no more output.
const DRAIN: Duration = Duration::from_millis(100);

/// The output of the other end and the input to it, each moved by a thread of its own, since reads and writes of a terminal
/// block.
fn ends(terminal: &File) -> std::io::Result<(mpsc::Receiver<Bytes>, mpsc::Sender<Bytes>)> {
    let (mut from, mut to) = (terminal.try_clone()?, terminal.try_clone()?);
    let (say, said) = mpsc::channel(16);
    thread::spawn(move || {
        let mut bytes = vec![0; 32 * 1024];
        // A closed other end reads as an error (EIO).
        while let Ok(length @ 1..) = from.read(&mut bytes)
            && say.blocking_send(bytes[..length].to_vec()).is_ok()
        {}
    });
    let (typed, mut types) = mpsc::channel::<Bytes>(16);
    thread::spawn(move || {
        while let Some(bytes) = types.blocking_recv()
            && to.write_all(&bytes).is_ok()
        {}
    });
    Ok((said, typed))
}
