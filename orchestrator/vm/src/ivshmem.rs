//! The server of the ivshmem-doorbell device: QEMU docs/specs/ivshmem-spec.rst, "Client-Server protocol". It has two
//! clients, QEMU and the host. The host connects to no peer, and rings back whenever it is rung.

use crate::error::VmError;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::write;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::net::unix::pipe;
use tokio::task::{JoinHandle, JoinSet};

/// The number of interrupt vectors of each client.
pub(crate) const VECTORS: usize = 2;

const VERSION: i64 = 0;
/// The message that carries the memory, in place of a client's id.
const MEMORY: i64 = -1;
/// The ids of the clients.
const GUEST: i64 = 0;
const HOST: i64 = 1;

/// Serves one QEMU; the server ends on drop.
pub(crate) struct Server(JoinHandle<()>);

impl Server {
    /// Listens at `socket`, and shares the memory in the file `memory`. It listens before it returns; QEMU waits for
    /// its messages at the start.
    pub(crate) fn start(socket: &Path, memory: &Path) -> Result<Self, VmError> {
        let listener = UnixListener::bind(socket).map_err(VmError::file(socket))?;
        let memory = File::options().read(true).write(true).open(memory).map_err(VmError::file(memory))?;
        let peers = Peers::new().map_err(VmError::file(socket))?;
        Ok(Self(tokio::spawn(async move {
            let Ok((stream, _)) = listener.accept().await else { return };
            // All messages fit into a socket's buffer. A QEMU that does not get them fails to start, and says so.
            let Ok(stream) = stream.into_std() else { return };
            let told = messages(&memory, &peers).into_iter().try_for_each(|message| message.send(&stream));
            if told.is_ok() {
                // QEMU treats a closed connection as a dead server, so keep it open.
                peers.answer().await;
            }
        })))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The eventfds by which each client is rung, one for each vector.
struct Peers {
    guest: Vec<OwnedFd>,
    host: Vec<OwnedFd>,
}

impl Peers {
    fn new() -> io::Result<Self> {
        let bell = |_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bells = || (0..VECTORS).map(bell).collect::<rustix::io::Result<Vec<OwnedFd>>>();
        Ok(Self { guest: bells()?, host: bells()? })
    }

    /// Rings the guest by the same vector whenever it rings the host. Does not return.
    async fn answer(self) {
        let mut answers: JoinSet<()> = self.host.into_iter().zip(self.guest).map(|(by, to)| answer(by, to)).collect();
        while answers.join_next().await.is_some() {}
    }
}

async fn answer(rung: OwnedFd, back: OwnedFd) {
    // An eventfd(2) is read like a pipe: eight bytes with the count, which becomes zero. A write adds to it.
    let Ok(mut rung) = pipe::Receiver::from_owned_fd_unchecked(rung) else { return };
    while rung.read_u64().await.is_ok() && write(&back, &1_u64.to_ne_bytes()).is_ok() {}
}

/// A number, with an optional descriptor.
struct Message<'a> {
    number: i64,
    descriptor: Option<BorrowedFd<'a>>,
}

impl Message<'_> {
    fn send(&self, stream: &UnixStream) -> io::Result<()> {
        let bytes = self.number.to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = self.descriptor.as_slice();
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let sent = sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// The messages for QEMU, in order: the version, its id, the memory, the host's eventfds, and its own eventfds.
fn messages<'a>(memory: &'a File, peers: &'a Peers) -> Vec<Message<'a>> {
    let plain = |number| Message { number, descriptor: None };
    let bells =
        |number, bells: &'a [OwnedFd]| bells.iter().map(move |bell| Message { number, descriptor: Some(bell.as_fd()) });
    let mut messages = vec![plain(VERSION), plain(GUEST), Message { number: MEMORY, descriptor: Some(memory.as_fd()) }];
    messages.extend(bells(HOST, &peers.host));
    messages.extend(bells(GUEST, &peers.guest));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    /// The next message of the server.
    fn next(stream: &UnixStream) -> (i64, Option<OwnedFd>) {
        let mut bytes = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(got.bytes, 8);
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        (i64::from_le_bytes(bytes), descriptor)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_is_told_who_it_is_the_memory_and_whom_it_can_ring_and_is_rung_back() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, memory) = (folder.path().join("socket"), folder.path().join("memory"));
        std::fs::write(&memory, b"shared").unwrap();
        let server = Server::start(&socket, &memory).unwrap();
        let told = tokio::task::spawn_blocking(move || {
            let stream = UnixStream::connect(&socket).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            (0..7).map(|_| next(&stream)).collect::<Vec<_>>()
        });
        let told = told.await.unwrap();
        let numbers: Vec<(i64, bool)> = told.iter().map(|(number, with)| (*number, with.is_some())).collect();
        assert_eq!(
            numbers,
            [
                (VERSION, false),
                (GUEST, false),
                (MEMORY, true),
                (HOST, true),
                (HOST, true),
                (GUEST, true),
                (GUEST, true)
            ]
        );
        let mut bytes = [0; 6];
        File::from(told[2].1.as_ref().unwrap().try_clone().unwrap()).read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"shared");

        let bell = |place: usize| told[place].1.as_ref().unwrap();
        let mut guest = pipe::Receiver::from_owned_fd_unchecked(bell(6).try_clone().unwrap()).unwrap();
        for _ in 0..3 {
            write(bell(4), &1_u64.to_ne_bytes()).unwrap();
            let rung = tokio::time::timeout(Duration::from_secs(10), guest.read_u64()).await;
            rung.expect("nobody answers").unwrap();
        }
        assert_eq!(rustix::io::read(bell(5), &mut [0; 8]), Err(rustix::io::Errno::AGAIN), "by another vector");
        drop(server);
    }
}
