//! Loads the modules that the host has chosen for this kernel, before anything needs them.

use crate::errno::errno_name;
use crate::facts;
use crate::log::say;
use luqual_protocol::MODULES_OPTION;
use rustix::io::Errno;
use rustix::system::finit_module;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Loads them in the order of their names. One that the kernel does not load is told on the console, with the errno: what needs
/// it then fails, and names it.
pub(crate) fn load() {
    let Ok(command_line) = fs::read_to_string("/proc/cmdline") else { return };
    let Some(folder) = facts::option(&command_line, MODULES_OPTION) else { return };
    let files: BTreeSet<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    for file in files {
        if let Err(why) = load_one(&file, &command_line) {
            say(&format!("luqual-agent: module not loaded: {}: {why}", file.display()));
        }
    }
}

fn load_one(file: &Path, command_line: &str) -> Result<(), String> {
    let open = File::open(file).map_err(|error| error.to_string())?;
    let parameters = CString::new(parameters(command_line, &module(file))).map_err(|error| error.to_string())?;
    match finit_module(&open, &parameters, 0) {
        // Built in, or loaded by the kernel itself.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno_name(errno)),
    }
}

/// The name of a module in a file such as `003-vfio_pci.ko`.
fn module(file: &Path) -> String {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    name.split_once('-').map_or(name.as_ref(), |(_, name)| name).replace('-', "_")
}

/// The parameters of a module on the kernel's command line, as modprobe(8) takes them: `vfio-pci.ids=1234:11e8`.
fn parameters(command_line: &str, module: &str) -> String {
    let of_module = |word: &&str| word.split_once('.').is_some_and(|(name, _)| name.replace('-', "_") == module);
    let words = command_line.split_whitespace().filter(of_module).filter_map(|word| word.split_once('.'));
    words.map(|(_, parameter)| parameter).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_gets_its_parameters_from_the_command_line() {
        let line =
            "console=ttyS0 vfio-pci.ids=1234:11e8 vfio_pci.disable_idle_d3=1 kvm.x=y vfio.enable luqual.nonce=1.2";
        assert_eq!(module(Path::new("/luqual/modules/source/003-vfio-pci.ko")), "vfio_pci");
        assert_eq!(parameters(line, "vfio_pci"), "ids=1234:11e8 disable_idle_d3=1");
        assert_eq!(parameters(line, "vfio"), "enable");
        assert_eq!(parameters(line, "virtio_net"), "");
    }
}
