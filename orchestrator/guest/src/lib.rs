//! Access to the guest: its initramfs, the SSH connection, and the client of the agent.

mod agent;
mod initramfs;
mod keys;
mod link;

pub use agent::{Agent, AgentLog};
pub use initramfs::{GuestFile, agent_binary, initramfs};
pub use keys::Keys;
pub use link::{Link, LinkError, Output, Size, Typed};
