//! The first initramfs: the agent as /init, the keys of this VM, and the kernels that it loads. The agent creates the
//! next ones.

use crate::keys::Keys;
use luqual_protocol::{
    AGENT, AUTHORIZED_KEY, Archive, Archived, HOST_KEY, KERNELS, Kernel, MODULES, PROGRAMS, VM_FOLDER,
};
use std::io;

/// The agent's static binary.
pub fn agent_binary() -> &'static [u8] {
    include_bytes!(env!("LUQUAL_AGENT"))
}

/// A file in the initramfs, besides the agent and the keys.
pub struct GuestFile<'a> {
    /// Its absolute path, in an existing folder.
    pub path: &'a str,
    /// Its content.
    pub content: &'a [u8],
    /// Whether it is a program.
    pub runs: bool,
}

/// The archive with the agent, the keys if there is a connection, the images of `kernels`, and `more`; and its files
/// and links.
pub fn initramfs(
    keys: Option<&Keys>,
    kernels: &[(Kernel, Vec<u8>)],
    more: &[GuestFile<'_>],
) -> io::Result<(Vec<u8>, Vec<Archived>)> {
    let mut archive = Archive::new(Vec::new());
    let modules = [MODULES, Kernel::Source.modules(), Kernel::Target.modules()];
    for folder in ["/bin", "/dev", "/proc", "/sys", "/run", VM_FOLDER, KERNELS, PROGRAMS].into_iter().chain(modules) {
        archive.directory(folder)?;
    }
    archive.file(AGENT, 0o755, agent_binary())?;
    archive.link("/init", AGENT.as_bytes())?;
    if let Some(keys) = keys {
        let (authorized, host) = keys.guest_files().map_err(io::Error::other)?;
        archive.file(AUTHORIZED_KEY, 0o644, authorized.as_bytes())?;
        archive.file(HOST_KEY, 0o600, host.as_bytes())?;
    }
    for (kernel, image) in kernels {
        archive.file(kernel.path(), 0o644, image)?;
    }
    for GuestFile { path, content, runs } in more {
        archive.file(path, if *runs { 0o755 } else { 0o644 }, content)?;
    }
    let files = archive.entries().to_vec();
    Ok((archive.finish()?, files))
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
    fn the_agent_is_init_and_the_kernels_travel_with_it() {
        let keys = Keys::make().unwrap();
        let kernels = [(Kernel::Target, b"a kernel".to_vec())];
        let more = |path, runs| GuestFile { path, content: b"more", runs };
        let archive =
            initramfs(Some(&keys), &kernels, &[more("/luqual/more", false), more("/luqual/programs/x", true)]);
        let (archive, entries) = archive.unwrap();
        let files = unpack(&archive);
        assert_eq!(files["init"], (0o120_777, AGENT.as_bytes().to_vec()));
        assert_eq!(files["bin/luqual-agent"].1, agent_binary());
        assert_eq!(files["luqual/kernels/target"].1, b"a kernel");
        assert_eq!(files["luqual/more"], (0o100_644, b"more".to_vec()));
        assert_eq!(files["luqual/programs/x"], (0o100_755, b"more".to_vec()));
        assert_eq!(files["luqual/host_key"].0, 0o100_600);
        assert!(!files.contains_key("luqual/kernels/source"));
        let agent = Archived::new(AGENT, 0o100_755, agent_binary());
        assert!(entries.contains(&agent) && entries.contains(&Archived::new("/init", 0o120_777, AGENT.as_bytes())));
        assert!(entries.iter().all(|entry| files.contains_key(entry.path.trim_start_matches('/'))));
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
