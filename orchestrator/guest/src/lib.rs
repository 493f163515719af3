//! The way into the guest: its initramfs, the SSH link and the agent client.

mod agent;
mod initramfs;
mod keys;
mod link;

pub use agent::{Agent, AgentLog};
pub use initramfs::{GuestFile, agent_binary, initramfs};
pub use keys::Keys;
pub use link::{Link, LinkError, Output, Size, Typed};
