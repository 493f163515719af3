//! How the agent's processes talk to each other: a line of text and perhaps a descriptor, each way, over a Unix socket
//! (unix(7), SCM_RIGHTS).

use crate::errno::errno_name;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;

/// The requesting end. Whoever has a copy may use it, one request at a time.
pub(crate) struct Channel(UnixStream);

impl Channel {
    /// Sends a command, which a descriptor may accompany, and waits for the answer.
    pub(crate) fn ask(&self, words: &str, fd: Option<BorrowedFd<'_>>) -> Result<Answer, String> {
        send(&self.0, words, fd)?;
        receive(&self.0)?.ok_or_else(|| format!("the process ended before it answered `{words}`"))
    }

    /// The same for a command that has to succeed: any other answer than [`DONE`] is an error.
    pub(crate) fn tell(&self, words: &str, fd: Option<BorrowedFd<'_>>) -> Result<(), String> {
        let (answer, _) = self.ask(words, fd)?;
        if answer == DONE { Ok(()) } else { Err(format!("{words}: {answer}")) }
    }

    /// Asks for a copy of the descriptor that the process holds by this name (`give NAME`).
    pub(crate) fn get_fd(&self, name: &str) -> Result<OwnedFd, String> {
        let (answer, given) = self.ask(&format!("give {name}"), None)?;
        given.ok_or_else(|| format!("the process sent no descriptor for {name}: {answer}"))
    }
}

#[cfg(test)]
impl Channel {
    /// Plays the other end: answers the next command, and returns it.
    pub(crate) fn answer(&self, answer: &str, fd: Option<BorrowedFd<'_>>) -> Result<String, String> {
        let (words, _) = receive(&self.0)?.ok_or("the request is empty")?;
        send(&self.0, answer, fd).map(|()| words)
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The answer to a command that succeeded.
pub(crate) const DONE: &str = "done";

fn send(socket: &UnixStream, text: &str, fd: Option<BorrowedFd<'_>>) -> Result<(), String> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let line = format!("{text}\n");
    let sent = sendmsg(socket, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL);
    sent.map(drop).map_err(|errno| format!("sendmsg: {}", errno_name(errno)))
}

/// Receives one line and its descriptor; `None` when the other end is closed. Each side waits for the other's answer, so no two
/// lines are ever in the socket.
fn receive(socket: &UnixStream) -> Result<Option<(String, Option<OwnedFd>)>, String> {
    let (mut text, mut fd) = (Vec::new(), None);
    while !text.ends_with(b"\n") {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let length = received.map_err(|errno| format!("recvmsg: {}", errno_name(errno)))?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                fd = fds.next();
            }
        }
        if length == 0 {
            return Ok(None);
        }
        text.extend(&bytes[..length]);
    }
    Ok(Some((String::from_utf8_lossy(text.trim_ascii_end()).into_owned(), fd)))
}

/// Obeys the commands that come over standard input, which is a socket, until the other end is closed. An error of `obey` is
/// sent as the answer.
pub(crate) fn serve(mut obey: impl FnMut(&[&str], Option<OwnedFd>) -> Result<Answer, String>) -> Result<(), String> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("socket: {error}"))?;
    let socket = UnixStream::from(socket);
    while let Some((words, fd)) = receive(&socket)? {
        let words: Vec<&str> = words.split(' ').collect();
        let (answer, fd) = obey(&words, fd).unwrap_or_else(|why| (why, None));
        send(&socket, &answer, fd.as_ref().map(AsFd::as_fd))?;
    }
    Ok(())
}

/// An answer: a text, and perhaps a descriptor.
pub(crate) type Answer = (String, Option<OwnedFd>);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn lines_and_descriptors_go_over_a_socket() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        send(&one, "take it", Some(file.as_fd())).unwrap();
        let (text, fd) = receive(&other).unwrap().unwrap();
        assert_eq!((text.as_str(), fd.is_some()), ("take it", true));
        drop(one);
        assert!(receive(&other).unwrap().is_none());
    }
}
