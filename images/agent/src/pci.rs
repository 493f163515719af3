//! PCI functions, as the kernel shows them in sysfs (Documentation/ABI/testing/sysfs-bus-pci).

use crate::mapping::Bar;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const DEVICES: &str = "/sys/bus/pci/devices";

/// A PCI function.
#[derive(Clone)]
pub(crate) struct Function {
    /// As in `0000:00:03.0`.
    pub(crate) address: String,
}

/// All functions, ordered by address.
pub(crate) fn functions() -> Result<Vec<Function>, String> {
    let entries = fs::read_dir(DEVICES).map_err(|error| format!("{DEVICES}: {error}"))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_, _>>().map_err(|error| format!("{DEVICES}: {error}"))?;
    names.sort_unstable();
    Ok(names.into_iter().map(|address| Function { address }).collect())
}

/// A base address register that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) number: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Function {
    fn folder(&self) -> PathBuf {
        Path::new(DEVICES).join(&self.address)
    }

    /// The path of a file in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Whether it exists.
    pub(crate) fn exists(&self) -> bool {
        self.folder().exists()
    }

    /// The content of a file with one line.
    pub(crate) fn text(&self, name: &str) -> Result<String, String> {
        let path = self.path(name);
        fs::read_to_string(&path)
            .map(|text| text.trim_end().to_owned())
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Its configuration space, as far as the kernel shows it.
    pub(crate) fn config(&self) -> Result<Vec<u8>, String> {
        let path = self.path("config");
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Its BARs that have an address.
    pub(crate) fn resources(&self) -> Result<Vec<Resource>, String> {
        Ok(resources(&self.text("resource")?))
    }

    /// The registers behind a BAR, without a driver.
    pub(crate) fn bar(&self, number: usize) -> Result<Bar, String> {
        let resource = self.resources()?.into_iter().find(|it| it.number == number).ok_or("no such BAR")?;
        let path = self.path(&format!("resource{number}"));
        let wrong = |error: String| format!("{}: {error}", path.display());
        let file = File::options().read(true).write(true).open(&path).map_err(|error| wrong(error.to_string()))?;
        let length = (resource.end - resource.start + 1) as usize;
        Bar::of_file(&file, 0, length).map_err(|errno| wrong(errno.to_string()))
    }

    /// The driver that is bound to it.
    pub(crate) fn driver(&self) -> Option<String> {
        Some(fs::read_link(self.path("driver")).ok()?.file_name()?.to_string_lossy().into_owned())
    }

    /// Binds it to this driver, after it was unbound from another.
    pub(crate) fn bind(&self, driver: &str) -> Result<(), String> {
        if self.driver().as_deref() == Some(driver) {
            return Ok(());
        }
        self.unbind()?;
        self.write(&self.path("driver_override"), driver)?;
        self.write(Path::new("/sys/bus/pci/drivers_probe"), &self.address)?;
        match self.driver() {
            Some(bound) if bound == driver => Ok(()),
            bound => Err(format!("{} has the driver {bound:?} after a bind to {driver}", self.address)),
        }
    }

    /// Unbinds it from its driver.
    pub(crate) fn unbind(&self) -> Result<(), String> {
        if self.driver().is_none() {
            return Ok(());
        }
        self.write(&self.path("driver/unbind"), &self.address)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), String> {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The name of its VFIO character device, as in `vfio0`.
    pub(crate) fn cdev(&self) -> Result<String, String> {
        let folder = self.path("vfio-dev");
        let mut entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?.flatten();
        let entry = entries.next().ok_or_else(|| format!("{}: the folder is empty", folder.display()))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    }

    /// The node of its VFIO group.
    pub(crate) fn group(&self) -> Result<String, String> {
        let link = fs::read_link(self.path("iommu_group")).map_err(|error| format!("{}: {error}", self.address))?;
        let number = link.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let named = format!("/dev/vfio/{number}");
        Ok(if Path::new(&named).exists() { named } else { format!("/dev/vfio/noiommu-{number}") })
    }
}

/// Parses `resource`: a line each with start, end and flags. The line of an unused BAR is all zero.
fn resources(text: &str) -> Vec<Resource> {
    /// The BARs come first; then the expansion ROM and the windows of bridges.
    const BARS: usize = 6;
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let lines = text.lines().take(BARS).enumerate();
    let read = lines.filter_map(|(bar, line)| {
        let mut words = line.split(' ').map(number);
        Some(Resource { number: bar, start: words.next()??, end: words.next()?? })
    });
    read.filter(|resource| resource.end > 0).collect()
}

/// The capabilities in a configuration space, each with its number and its offset (PCI Local Bus Specification 3.0, 6.7).
pub(crate) fn capabilities(config: &[u8]) -> Vec<(u8, usize)> {
    let byte = |at: usize| config.get(at).copied().unwrap_or_default();
    let mut found = Vec::new();
    let mut at = usize::from(byte(0x34) & !3);
    // 192 bytes have room for 48 capabilities: a list with a loop ends.
    while at >= 0x40 && found.len() < 48 {
        found.push((byte(at), at));
        at = usize::from(byte(at + 1) & !3);
    }
    found
}

/// The extended capabilities (PCI Express Base Specification, 7.6.3).
pub(crate) fn extended_capabilities(config: &[u8]) -> Vec<(u16, usize)> {
    let word = |at: usize| config.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_le_bytes);
    let mut found = Vec::new();
    let mut at = 0x100;
    while at >= 0x100 && found.len() < 64 {
        let header = word(at);
        if header == 0 || header == u32::MAX {
            break;
        }
        found.push((header as u16, at));
        at = (header >> 20 & !3) as usize;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bars_with_an_address_are_listed() {
        let text = "0x00000000fea00000 0x00000000feafffff 0x0000000000040200\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                    0x00000000fe000000 0x00000000fe003fff 0x000000000014220c\n";
        assert_eq!(
            resources(text),
            [
                Resource { number: 0, start: 0xfea0_0000, end: 0xfeaf_ffff },
                Resource { number: 2, start: 0xfe00_0000, end: 0xfe00_3fff }
            ]
        );
        assert_eq!(resources("nonsense"), []);
    }

    #[test]
    fn capabilities_are_followed_and_a_loop_ends() {
        let mut config = vec![0; 4096];
        config[0x34] = 0x40;
        config[0x40..0x42].copy_from_slice(&[0x11, 0x80]);
        config[0x80..0x82].copy_from_slice(&[0x10, 0]);
        config[0x100..0x104].copy_from_slice(&(0x150_u32 << 20 | 1 << 16 | 0xd).to_le_bytes());
        config[0x150..0x154].copy_from_slice(&(1_u32 << 16 | 0xe).to_le_bytes());
        assert_eq!(capabilities(&config), [(0x11, 0x40), (0x10, 0x80)]);
        assert_eq!(extended_capabilities(&config), [(0xd, 0x100), (0xe, 0x150)]);
        config[0x81] = 0x40;
        assert_eq!(capabilities(&config).len(), 48);
        assert_eq!(capabilities(&[]), []);
        assert_eq!(extended_capabilities(&config[..256]), []);
    }
}
