//! Kernel configurations: the comparison of requested and resulting options, and the capabilities that follow from
//! them.

use crate::catalog::Entry;
use crate::error::KernelError;
use luqual_model::{ARCH, Capability};
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

    /// Whether the option is built in.
    fn has(&self, option: &str) -> bool {
        self.value(option) == "y"
    }

    /// Whether the option is built in, or a module that is one of `modules`.
    fn has_with(&self, option: &str, modules: &BTreeSet<String>) -> bool {
        self.has(option) || self.module(option).is_some_and(|module| modules.contains(module))
    }

    /// The module that the option is built as; `None` if it is built in, or not set.
    fn module(&self, option: &str) -> Option<&'static str> {
        (self.value(option) == "m").then(|| module_of(option)).flatten()
    }

    /// The capabilities of a kernel with this configuration and the modules with these names.
    pub fn capabilities(&self, modules: &BTreeSet<String>) -> BTreeSet<Capability> {
        Capability::ALL.into_iter().filter(|capability| self.lacks(*capability, modules).is_none()).collect()
    }

    /// The modules of `modules` that a capability needs, each with the capability. What they need themselves is not
    /// among them.
    pub(crate) fn wanted(&self, modules: &BTreeSet<String>) -> Vec<(Capability, &'static str)> {
        let of_one = |capability| {
            let Needed { all, one_of, also } = needed(capability);
            let of_options = all.iter().chain(one_of).chain(also).filter_map(|option| self.module(option));
            of_options.filter(|module| modules.contains(*module)).map(move |module| (capability, module))
        };
        Capability::ALL.into_iter().flat_map(of_one).collect()
    }

    /// Of each capability that a kernel with this configuration and these modules lacks: which options, and that
    /// `file` says so.
    pub fn lacking(&self, file: &str, modules: &BTreeSet<String>) -> BTreeMap<Capability, String> {
        let lacks = |capability| Some((capability, format!("{} ({file})", self.lacks(capability, modules)?)));
        Capability::ALL.into_iter().filter_map(lacks).collect()
    }

    /// The options that keep the kernel from having a capability; `None` if it has it.
    fn lacks(&self, capability: Capability, modules: &BTreeSet<String>) -> Option<String> {
        let Needed { all, one_of, .. } = needed(capability);
        let how = |option: &&str| match (self.value(option), module_of(option)) {
            ("m", Some(module)) => format!("{option} is the module {module}, whose file is not there"),
            _ => format!("{option} is not set"),
        };
        let missing = all.iter().filter(|option| !self.has_with(option, modules)).map(how);
        let none = !one_of.is_empty() && !one_of.iter().any(|option| self.has_with(option, modules));
        let of_several = none.then(|| one_of.iter().map(how).collect::<Vec<_>>().join(" and "));
        let told: Vec<String> = missing.chain(of_several).collect();
        Some(told.join(", ")).filter(|told| !told.is_empty())
    }

    /// Whether the option is a module that luqual can load, and `wanted` to be built in.
    fn has_as_module(&self, option: &str, wanted: &str) -> bool {
        wanted == "y" && self.module(option).is_some()
    }

    /// What differs from the configuration that this one started from.
    pub(crate) fn differences(&self, from: &Self) -> BTreeMap<String, String> {
        let options: BTreeSet<&String> = self.0.keys().chain(from.0.keys()).collect();
        let differ = |option: &&String| self.value(option) != from.value(option) && !is_of_the_tools(option);
        let told = |option: &String| (option.clone(), format!("{}, was {}", self.value(option), from.value(option)));
        options.into_iter().filter(differ).map(told).collect()
    }

    /// How many options are modules.
    pub(crate) fn modules(&self) -> usize {
        self.0.values().filter(|value| *value == "m").count()
    }

    /// How many options are built in, or modules.
    pub(crate) fn set(&self) -> u64 {
        self.0.values().filter(|value| matches!(value.as_str(), "y" | "m")).count() as u64
    }

    /// Whether anything is built as a module.
    pub(crate) fn has_modules(&self) -> bool {
        self.modules() > 0
    }

    /// Whether a kernel with this configuration has static keys, which patch its code while it runs.
    pub fn has_static_keys(&self) -> bool {
        self.has("CONFIG_JUMP_LABEL")
    }
}

/// Whether Kconfig sets an option by itself, from the compiler and the other programs of the host (init/Kconfig).
fn is_of_the_tools(option: &str) -> bool {
    const OF_TOOLS: [&str; 8] = ["CC_", "GCC_", "CLANG_", "AS_", "LD_", "LLD_", "RUSTC_", "PAHOLE_"];
    option.strip_prefix("CONFIG_").is_some_and(|name| OF_TOOLS.iter().any(|tool| name.starts_with(tool)))
}

/// The options of a capability.
struct Needed {
    /// All of these have to be there,
    all: &'static [&'static str],
    /// and one of these, if there are any.
    one_of: &'static [&'static str],
    /// These are of use, and loaded where they are modules: a kernel asks modprobe for them, and there is none.
    also: &'static [&'static str],
}

const fn needed(capability: Capability) -> Needed {
    const NONE: Needed = Needed { all: &[], one_of: &[], also: &[] };
    match capability {
        Capability::Agent => Needed {
            all: const {
                &[
                    ARCH.console.option,
                    "CONFIG_BLK_DEV_INITRD",
                    "CONFIG_DEVTMPFS",
                    "CONFIG_VIRTIO_PCI",
                    "CONFIG_VIRTIO_NET",
                ]
            },
            also: &["CONFIG_ZRAM"],
            ..NONE
        },
        Capability::Kho => Needed { all: &["CONFIG_KEXEC_HANDOVER"], ..NONE },
        Capability::Luo => Needed { all: &["CONFIG_LIVEUPDATE"], ..NONE },
        Capability::Vfio => {
            Needed { all: &["CONFIG_VFIO", "CONFIG_VFIO_PCI"], also: &["CONFIG_VFIO_IOMMU_TYPE1"], ..NONE }
        }
        Capability::Iommu => Needed { all: &["CONFIG_IOMMUFD"], one_of: ARCH.iommu_options, ..NONE },
        Capability::MemoryCgroups => Needed { all: &["CONFIG_MEMCG"], ..NONE },
        Capability::Kvm => Needed { one_of: ARCH.kvm_options, ..NONE },
    }
}

/// The module that an option makes, if it can be one; from the kernel's makefiles.
fn module_of(option: &str) -> Option<&'static str> {
    Some(match option {
        "CONFIG_ZRAM" => "zram",
        "CONFIG_VIRTIO_PCI" => "virtio_pci",
        "CONFIG_VIRTIO_NET" => "virtio_net",
        "CONFIG_VFIO" => "vfio",
        "CONFIG_VFIO_PCI" => "vfio_pci",
        "CONFIG_VFIO_IOMMU_TYPE1" => "vfio_iommu_type1",
        "CONFIG_IOMMUFD" => "iommufd",
        "CONFIG_VIRTIO_IOMMU" => "virtio_iommu",
        _ => return ARCH.modules.iter().find(|(own, _)| *own == option).map(|(_, module)| *module),
    })
}

fn assignments(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter(|line| line.starts_with("CONFIG_")).filter_map(|line| line.trim_end().split_once('='))
}

/// A whole configuration, with the options of the fragments in place of its own. A module that luqual can load stays one
/// where a fragment asks that it is built in.
pub(crate) fn merged(base: &str, fragment: &str) -> String {
    let own = KernelConfig::parse(base);
    let asked = assignments(fragment).filter(|(option, wanted)| !own.has_as_module(option, wanted));
    let (asked, fragment): (BTreeSet<&str>, Vec<String>) =
        asked.map(|(option, wanted)| (option, format!("{option}={wanted}"))).unzip();
    let kept = base.lines().filter(|line| option_of(line).is_none_or(|option| !asked.contains(option)));
    kept.chain(fragment.iter().map(String::as_str)).map(|line| format!("{line}\n")).collect()
}

/// The option that a line sets or unsets.
fn option_of(line: &str) -> Option<&str> {
    let unset = line.strip_prefix("# ").and_then(|line| line.trim_end().strip_suffix(" is not set"));
    let option = unset.or_else(|| line.split_once('=').map(|(option, _)| option))?;
    option.starts_with("CONFIG_").then_some(option)
}

/// Checks the configuration. An error names each option whose value differs from the requested one, and each option
/// that the catalog lists under not_applicable but that applies. `base` is the whole configuration that it started
/// from.
pub(crate) fn check(entry: &Entry, base: &KernelConfig, result: &KernelConfig) -> Result<(), KernelError> {
    let asked: BTreeMap<&str, &str> = assignments(&entry.fragment).collect();
    let mut options = Vec::new();
    for (option, wanted) in &asked {
        let got = result.value(option);
        let is_as_asked = got == *wanted || got == "m" && base.has_as_module(option, wanted);
        match (is_as_asked, entry.not_applicable.contains_key(*option)) {
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
    use crate::base::Base;
    use crate::catalog::Source;

    fn entry(fragment: &str, not_applicable: &[&str]) -> Entry {
        Entry {
            version: "1".into(),
            built_as: "1".into(),
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
        assert!(check(&entry("CONFIG_A=y\nCONFIG_N=16\nCONFIG_B=n\n", &[]), &KernelConfig::default(), &result).is_ok());
        let error = check(&entry("CONFIG_A=n\nCONFIG_B=y\nCONFIG_N=8\n", &[]), &KernelConfig::default(), &result)
            .unwrap_err()
            .to_string();
        for line in ["CONFIG_A: expected n, observed y", "CONFIG_B: expected y", "CONFIG_N: expected 8"] {
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn what_does_not_apply_must_not() {
        let result = KernelConfig::parse("CONFIG_A=y\n");
        assert!(check(&entry("CONFIG_A=y\nCONFIG_B=y\n", &["CONFIG_B"]), &KernelConfig::default(), &result).is_ok());
        assert!(check(&entry("CONFIG_A=y\n", &["CONFIG_A"]), &KernelConfig::default(), &result).is_err());
        assert!(check(&entry("CONFIG_A=y\n", &["CONFIG_C"]), &KernelConfig::default(), &result).is_err());
    }

    fn none() -> BTreeSet<String> {
        BTreeSet::new()
    }

    #[test]
    fn abilities_come_from_options() {
        let config = KernelConfig::parse("CONFIG_LIVEUPDATE=y\nCONFIG_VFIO=y\nCONFIG_KVM_AMD=y\nCONFIG_IOMMUFD=y\n");
        assert_eq!(config.capabilities(&none()).into_iter().collect::<Vec<_>>(), [Capability::Luo, Capability::Kvm]);
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
    fn a_module_counts_if_its_file_is_there() {
        let text = "CONFIG_LIVEUPDATE=m\nCONFIG_VFIO=y\nCONFIG_VFIO_PCI=m\nCONFIG_KVM_INTEL=m\nCONFIG_KVM_AMD=m\n\
                    CONFIG_IOMMUFD=m\nCONFIG_INTEL_IOMMU=y\nCONFIG_VFIO_IOMMU_TYPE1=m\n";
        let config = KernelConfig::parse(text);
        let modules = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let can = |names: &[&str]| config.capabilities(&modules(names)).into_iter().collect::<Vec<_>>();
        assert_eq!(can(&[]), []);
        assert_eq!(can(&["vfio_pci"]), [Capability::Vfio]);
        assert_eq!(can(&["iommufd", "kvm_amd"]), [Capability::Iommu, Capability::Kvm]);
        assert_eq!(
            config.wanted(&modules(&["vfio_pci", "vfio_iommu_type1", "kvm_amd", "e1000e"])),
            [(Capability::Vfio, "vfio_pci"), (Capability::Vfio, "vfio_iommu_type1"), (Capability::Kvm, "kvm_amd")]
        );
    }

    #[test]
    fn what_is_lacking_is_told_by_option_and_file() {
        let text = "CONFIG_SERIAL_8250_CONSOLE=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_NET=m\n\
                    # CONFIG_DEVTMPFS is not set\n# CONFIG_LIVEUPDATE is not set\nCONFIG_KVM_AMD=m\n";
        let lacking = KernelConfig::parse(text).lacking("config-7.3.4", &none());
        let of = |capability| lacking.get(&capability).map(String::as_str);
        assert_eq!(
            of(Capability::Agent),
            Some(
                "CONFIG_DEVTMPFS is not set, CONFIG_VIRTIO_NET is the module virtio_net, whose file is not there \
                 (config-7.3.4)"
            )
        );
        assert_eq!(of(Capability::Luo), Some("CONFIG_LIVEUPDATE is not set (config-7.3.4)"));
        assert_eq!(
            of(Capability::Kvm),
            Some(
                "CONFIG_KVM_AMD is the module kvm_amd, whose file is not there and CONFIG_KVM_INTEL is not set \
                 (config-7.3.4)"
            )
        );
        let whole = KernelConfig::parse("CONFIG_KEXEC_HANDOVER=y\n");
        let all: BTreeSet<Capability> = Capability::ALL.into_iter().collect();
        let lacking: BTreeSet<Capability> = whole.lacking("x", &none()).into_keys().collect();
        assert_eq!(&all - &lacking, whole.capabilities(&none()));
        assert!(!lacking.contains(&Capability::Kho));
    }

    #[test]
    fn only_what_the_fragments_ask_for_is_checked() {
        let base = KernelConfig::parse("CONFIG_GONE=y\nCONFIG_VFIO=m\nCONFIG_N=m\n");
        let entry = entry("CONFIG_A=y\nCONFIG_VFIO=y\nCONFIG_N=y\n", &[]);
        let told = |result: &str| check(&entry, &base, &KernelConfig::parse(result)).map_err(|error| error.to_string());
        assert_eq!(told("CONFIG_A=y\nCONFIG_VFIO=m\nCONFIG_N=y\n"), Ok(()));
        // Nobody would load any other module.
        assert!(
            told("CONFIG_A=y\nCONFIG_VFIO=m\nCONFIG_N=m\n").unwrap_err().contains("CONFIG_N: expected y, observed m")
        );
        assert!(told("CONFIG_A=y\nCONFIG_N=y\n").unwrap_err().contains("CONFIG_VFIO: expected y, observed n"));
    }

    #[test]
    fn a_whole_configuration_keeps_its_modules() {
        let base = "CONFIG_VFIO=m\n# CONFIG_N is not set\nCONFIG_Y=y\nCONFIG_S=\"a\"\n";
        let merged = merged(base, "# why\nCONFIG_VFIO=y\nCONFIG_N=y\nCONFIG_Y=m\nCONFIG_S=\"\"\n");
        assert_eq!(merged, "CONFIG_VFIO=m\nCONFIG_N=y\nCONFIG_Y=m\nCONFIG_S=\"\"\n");
    }

    #[test]
    fn what_differs_from_the_base_is_told() {
        let base = KernelConfig::parse("CONFIG_A=y\nCONFIG_M=m\nCONFIG_O=m\nCONFIG_CC_VERSION_TEXT=\"a\"\n");
        let own = KernelConfig::parse("CONFIG_B=16\nCONFIG_M=m\nCONFIG_O=y\nCONFIG_CC_VERSION_TEXT=\"b\"\n");
        let changed: Vec<String> =
            own.differences(&base).iter().map(|(option, how)| format!("{option}: {how}")).collect();
        assert_eq!(changed, ["CONFIG_A: n, was y", "CONFIG_B: 16, was n", "CONFIG_O: y, was m"]);
        assert_eq!((own.differences(&own), own.modules()), (BTreeMap::new(), 1));
    }
}
