//! The one initramfs: the agent as /init, the keys of this VM, and for a source its target.
//!
//! Not compressed: it is read once by a guest that unpacks more slowly than the host copies.

use crate::keys::Keys;
use cpio::newc::Builder;
use luqual_protocol::{AGENT, AUTHORIZED_KEY, HOST_KEY, PROGRAMS, TARGET_INITRD, TARGET_KERNEL, VM_FOLDER};
use std::io::{self, Write};

/// The agent's static binary.
pub fn agent_binary() -> &'static [u8] {
    include_bytes!(env!("LUQUAL_AGENT"))
}

/// What a source carries for its kexec.
pub struct Target<'a> {
    /// The target's bzImage.
    pub kernel: &'a [u8],
    /// The target's initramfs.
    pub initrd: &'a [u8],
}

/// A file beside the agent and the keys.
pub struct GuestFile<'a> {
    /// Its absolute path, in a folder that is there.
    pub path: &'a str,
    /// Its content.
    pub content: &'a [u8],
    /// Whether it is a program.
    pub runs: bool,
}

/// A newc archive (Documentation/driver-api/early-userspace/buffer-format.rst) with the agent, the keys, and `target`.
pub fn initramfs(keys: &Keys, target: Option<&Target<'_>>, more: &[GuestFile<'_>]) -> io::Result<Vec<u8>> {
    let (authorized, host) = keys.guest_files().map_err(io::Error::other)?;
    let mut archive = Archive { bytes: Vec::new(), inode: 0 };
    for folder in ["/bin", "/dev", "/proc", "/sys", "/run", VM_FOLDER, "/luqual/target", PROGRAMS] {
        archive.add(folder, DIRECTORY | 0o755, &[])?;
    }
    archive.add(AGENT, FILE | 0o755, agent_binary())?;
    archive.add("/init", LINK | 0o777, AGENT.as_bytes())?;
    archive.add(AUTHORIZED_KEY, FILE | 0o644, authorized.as_bytes())?;
    archive.add(HOST_KEY, FILE | 0o600, host.as_bytes())?;
    if let Some(target) = target {
        archive.add(TARGET_KERNEL, FILE | 0o644, target.kernel)?;
        archive.add(TARGET_INITRD, FILE | 0o644, target.initrd)?;
    }
    for GuestFile { path, content, runs } in more {
        archive.add(path, FILE | if *runs { 0o755 } else { 0o644 }, content)?;
    }
    cpio::newc::trailer(archive.bytes)
}

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len())
            .map_err(|_| io::Error::other(format!("{path}: an initramfs holds no file of 4 GiB or more")))?;
        self.inode += 1;
        let entry = Builder::new(path.trim_start_matches('/')).ino(self.inode).mode(mode).nlink(1);
        let mut writer = entry.write(&mut self.bytes, length);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    fn unpack(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut rest = archive;
        loop {
            let mut reader = cpio::NewcReader::new(rest).unwrap();
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            if name == "TRAILER!!!" {
                return found;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            rest = reader.finish().unwrap();
            found.insert(name, (mode, content));
        }
    }

    #[test]
    fn the_agent_is_init_and_the_target_travels_with_the_source() {
        let keys = Keys::make().unwrap();
        let target = Target { kernel: b"a kernel", initrd: b"an initramfs" };
        let more = |path, runs| GuestFile { path, content: b"more", runs };
        let archive = initramfs(&keys, Some(&target), &[more("/luqual/more", false), more("/luqual/programs/x", true)]);
        let archive = archive.unwrap();
        let files = unpack(&archive);
        assert_eq!(files["init"], (LINK | 0o777, AGENT.as_bytes().to_vec()));
        assert_eq!(files["bin/luqual-agent"].1, agent_binary());
        assert_eq!(files["luqual/target/kernel"].1, b"a kernel");
        assert_eq!(files["luqual/target/initrd"].1, b"an initramfs");
        assert_eq!(files["luqual/more"], (FILE | 0o644, b"more".to_vec()));
        assert_eq!(files["luqual/programs/x"], (FILE | 0o755, b"more".to_vec()));
        assert_eq!(files["luqual/host_key"].0, FILE | 0o600);
        assert!(!unpack(&initramfs(&keys, None, &[]).unwrap()).contains_key("luqual/target/kernel"));
    }

    #[test]
    fn the_agent_is_a_static_program() {
        // A dynamic one would have a PT_INTERP segment with the loader's path in it.
        assert!(agent_binary().starts_with(b"\x7fELF"));
        let text = b"/lib64/ld-linux";
        assert!(!agent_binary()[..4096].windows(text.len()).any(|window| window == text));
    }

    #[test]
    fn each_vm_has_keys_of_its_own() {
        let (first, second) = (Keys::make().unwrap(), Keys::make().unwrap());
        assert_ne!(first.guest_files().unwrap(), second.guest_files().unwrap());
        assert!(first.guest_files().unwrap().0.starts_with("ssh-ed25519 "));
    }
}
