//! The way into the guest: its initramfs, the SSH link and the agent client.
