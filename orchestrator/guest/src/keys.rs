//! SSH keys for one VM: no other key can log in, and no other machine can pretend to be the guest.

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use std::sync::Arc;

/// The keys of both ends of one VM, Ed25519.
#[derive(Clone)]
pub struct Keys {
    pub(crate) client: Arc<PrivateKey>,
    host: Arc<PrivateKey>,
}

impl Keys {
    /// Creates keys from the operating system's randomness.
    pub fn make() -> Result<Self, russh::keys::ssh_key::Error> {
        let one = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map(Arc::new);
        Ok(Self { client: one()?, host: one()? })
    }

    pub(crate) fn host_public(&self) -> &PublicKey {
        self.host.public_key()
    }

    /// The public key that may log in, and the guest's private key, both in OpenSSH's format.
    pub(crate) fn guest_files(&self) -> Result<(String, String), russh::keys::ssh_key::Error> {
        Ok((self.client.public_key().to_openssh()?, self.host.to_openssh(LineEnding::LF)?.to_string()))
    }
}
