//! All that is known of a kernel, in lines. Pure.

use luqual_kernels::Entry;
use luqual_model::{Capability, KernelInfo};

pub(super) fn description(info: &KernelInfo, entry: Option<&Entry>) -> String {
    let unknown = || "unknown".to_owned();
    let ability = |ability: Capability| match &info.capabilities {
        None => format!("{ability} unknown"),
        Some(capabilities) => format!("{ability} {}", if capabilities.contains(&ability) { "yes" } else { "no" }),
    };
    let lacks = info.lacking.iter().map(|(ability, why)| ("lacks", format!("{ability}: {why}")));
    let mut lines = vec![
        ("name", info.name.clone()),
        ("release", info.release.clone()),
        (
            "build id",
            info.build_id
                .clone()
                .unwrap_or_else(|| "unknown: a guest proves by its release alone that it runs this kernel".to_owned()),
        ),
        ("provenance", info.provenance.clone()),
        ("sha256", info.image_sha256.clone()),
        ("ABI strings", info.abi.as_ref().map_or_else(unknown, |abi| abi.join(", "))),
        ("abilities", Capability::ALL.map(ability).join(", ")),
        ("command line", info.command_line.clone()),
    ];
    lines.extend(lacks);
    for (index, patch) in info.patches.iter().enumerate() {
        lines.push(("patch", format!("{}. {} (sha256 {})", index + 1, patch.subject, patch.sha256)));
    }
    if let Some(base) = &info.base {
        lines.push(("configuration", format!("{}; {} of its modules are not built", base.name, base.not_built)));
        lines.extend(base.changed.iter().map(|(option, values)| ("differs", format!("{option}: {values}"))));
    }
    lines.extend(info.facts.iter().map(|(name, value)| (name.as_str(), value.clone())));
    for (option, reason) in entry.into_iter().flat_map(|entry| &entry.not_applicable) {
        lines.push(("not applicable", format!("{option}: {reason}")));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<18} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::Patch;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn unknown_is_not_no() {
        let mut info = KernelInfo {
            name: "x".into(),
            release: "7.3.4".into(),
            image_sha256: "ab".into(),
            provenance: "file x".into(),
            ..KernelInfo::default()
        };
        assert!(description(&info, None).contains("KHO unknown, LUO unknown"));
        info.capabilities = Some(BTreeSet::from([Capability::Luo]));
        info.lacking = BTreeMap::from([(Capability::Kho, "CONFIG_KEXEC_HANDOVER is not set (config-1)".into())]);
        info.abi = Some(vec!["kho-v4".into(), "luo-v5".into()]);
        info.patches = vec![Patch { subject: "liveupdate: louder".into(), sha256: "cd".into() }];
        let text = description(&info, None);
        assert!(text.contains("patch              1. liveupdate: louder (sha256 cd)\n"), "{text}");
        assert!(text.contains("lacks              KHO: CONFIG_KEXEC_HANDOVER is not set (config-1)\n"), "{text}");
        assert!(text.contains("KHO no, LUO yes") && text.contains("kho-v4, luo-v5"), "{text}");
    }
}
