//! The SSH server, by which the host reaches the guest.

mod command;
mod pty;
mod server;

pub(crate) use server::run;
