//! Kernel configurations: the comparison of requested and resulting options, and the capabilities that follow from
//! them.

use crate::catalog::Entry;
use crate::error::KernelError;
use luqual_model::Capability;
use std::collections::{BTreeMap, BTreeSet};

/// A .config: the value of each option; options that are not set are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelConfig(BTreeMap<String, String>);

impl KernelConfig {
    /// Reads a .config or a fragment; `=n` counts as not set.
    pub fn parse(text: &str) -> Self {
        Self(assignments(text).filter(|(_, value)| *value != "n").map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    fn value(&self, option: &str) -> &str {
        self.0.get(option).map_or("n", String::as_str)
    }

    /// Whether the option is built in. A module counts as absent, since luqual boots the image with an initramfs of
    /// its own.
    fn has(&self, option: &str) -> bool {
        self.value(option) == "y"
    }

    /// The capabilities of a kernel with this configuration.
    pub fn capabilities(&self) -> BTreeSet<Capability> {
        let can = |ability: &Capability| match ability {
            Capability::Kho => self.has("CONFIG_KEXEC_HANDOVER"),
            Capability::Luo => self.has("CONFIG_LIVEUPDATE"),
            Capability::Vfio => self.has("CONFIG_VFIO") && self.has("CONFIG_VFIO_PCI"),
            Capability::Iommu => {
                let drivers = ["CONFIG_INTEL_IOMMU", "CONFIG_AMD_IOMMU", "CONFIG_VIRTIO_IOMMU"];
                self.has("CONFIG_IOMMUFD") && drivers.into_iter().any(|driver| self.has(driver))
            }
            Capability::Kvm => self.has("CONFIG_KVM_AMD") || self.has("CONFIG_KVM_INTEL"),
        };
        Capability::ALL.into_iter().filter(can).collect()
    }

    /// Whether a kernel with this configuration has static keys, which patch its code while it runs.
    pub fn has_static_keys(&self) -> bool {
        self.has("CONFIG_JUMP_LABEL")
    }
}

fn assignments(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter(|line| line.starts_with("CONFIG_")).filter_map(|line| line.trim_end().split_once('='))
}

/// A complete configuration, with the options of the fragments in place of its own.
pub(crate) fn merged(base: &str, fragment: &str) -> String {
    let asked: BTreeSet<&str> = assignments(fragment).map(|(option, _)| option).collect();
    let kept = base.lines().filter(|line| option_of(line).is_none_or(|option| !asked.contains(option)));
    kept.chain(fragment.lines()).map(|line| format!("{line}\n")).collect()
}

/// The option that a line sets or unsets.
fn option_of(line: &str) -> Option<&str> {
    let unset = line.strip_prefix("# ").and_then(|line| line.trim_end().strip_suffix(" is not set"));
    let option = unset.or_else(|| line.split_once('=').map(|(option, _)| option))?;
    option.starts_with("CONFIG_").then_some(option)
}

/// Checks the configuration. An error names each option whose value differs from the requested one, and each option
/// that the catalog lists under not_applicable but that applies.
pub(crate) fn check(entry: &Entry, result: &KernelConfig) -> Result<(), KernelError> {
    let asked: BTreeMap<&str, &str> = assignments(&entry.fragment).collect();
    let mut options = Vec::new();
    for (option, wanted) in &asked {
        let got = result.value(option);
        match (got == *wanted, entry.not_applicable.contains_key(*option)) {
            (false, false) => options.push(format!("{option}: expected {wanted}, observed {got}")),
            (true, true) => options.push(format!(
                "{option}={wanted} applies to this kernel, but the catalog lists it under not_applicable"
            )),
            (true, false) | (false, true) => {}
        }
    }
    for option in entry.not_applicable.keys().filter(|option| !asked.contains_key(option.as_str())) {
        options.push(format!("{option} is listed under not_applicable, but no fragment requests it"));
    }
    if options.is_empty() { Ok(()) } else { Err(KernelError::Options { version: entry.version.clone(), options }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Base, Source};

    fn entry(fragment: &str, not_applicable: &[&str]) -> Entry {
        Entry {
            version: "1".into(),
            source: Source::Tree("/x".into()),
            patches: None,
            base: Base::AllNo,
            fragment: fragment.into(),
            not_applicable: not_applicable.iter().map(|name| ((*name).to_owned(), "because".to_owned())).collect(),
            command_line: String::new(),
        }
    }

    #[test]
    fn each_option_that_is_missing_is_named() {
        let result = KernelConfig::parse("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=16\n");
        assert!(check(&entry("CONFIG_A=y\nCONFIG_N=16\nCONFIG_B=n\n", &[]), &result).is_ok());
        let error = check(&entry("CONFIG_A=n\nCONFIG_B=y\nCONFIG_N=8\n", &[]), &result).unwrap_err().to_string();
        for line in ["CONFIG_A: expected n, observed y", "CONFIG_B: expected y", "CONFIG_N: expected 8"] {
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn what_does_not_apply_must_not() {
        let result = KernelConfig::parse("CONFIG_A=y\n");
        assert!(check(&entry("CONFIG_A=y\nCONFIG_B=y\n", &["CONFIG_B"]), &result).is_ok());
        assert!(check(&entry("CONFIG_A=y\n", &["CONFIG_A"]), &result).is_err());
        assert!(check(&entry("CONFIG_A=y\n", &["CONFIG_C"]), &result).is_err());
    }

    #[test]
    fn abilities_come_from_options() {
        let config = KernelConfig::parse("CONFIG_LIVEUPDATE=y\nCONFIG_VFIO=y\nCONFIG_KVM_AMD=y\nCONFIG_IOMMUFD=y\n");
        assert_eq!(config.capabilities().into_iter().collect::<Vec<_>>(), [Capability::Luo, Capability::Kvm]);
        assert!(!config.has_static_keys() && KernelConfig::parse("CONFIG_JUMP_LABEL=y\n").has_static_keys());
    }

    #[test]
    fn a_fragment_takes_the_place_of_what_the_base_says() {
        let base = "# Automatically generated\nCONFIG_A=m\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\nCONFIG_AB=y";
        assert_eq!(
            merged(base, "CONFIG_A=y\nCONFIG_B=n\n"),
            "# Automatically generated\nCONFIG_C=\"x=y\"\nCONFIG_AB=y\nCONFIG_A=y\nCONFIG_B=n\n"
        );
    }

    #[test]
    fn a_module_is_no_ability() {
        let config = |vfio_pci: &str| {
            let text =
                "CONFIG_LIVEUPDATE=y\nCONFIG_VFIO=y\nCONFIG_KVM_INTEL=m\nCONFIG_IOMMUFD=m\nCONFIG_INTEL_IOMMU=y\n";
            KernelConfig::parse(&format!("{text}CONFIG_VFIO_PCI={vfio_pci}\n"))
                .capabilities()
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(config("m"), [Capability::Luo]);
        assert_eq!(config("y"), [Capability::Luo, Capability::Vfio]);
    }

    #[test]
    fn only_what_the_fragments_ask_for_is_checked() {
        let base = Base::File { name: "debian.config".into(), text: "CONFIG_GONE=y\n".into() };
        let entry = Entry { base, ..entry("CONFIG_A=y\n", &[]) };
        assert!(check(&entry, &KernelConfig::parse("CONFIG_A=y\n")).is_ok());
    }
}
