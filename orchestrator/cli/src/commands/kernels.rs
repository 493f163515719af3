//! `luqual kernels`: what can be built, what is there, and what it is.

use super::KernelSource;
use crate::error::{CliError, Exit};
use crate::output;
use crate::progress::Shown;
use clap::Subcommand;
use luqual_kernels::{Entry, Kernel, Store};
use luqual_model::{Ability, KernelInfo};

/// What to do with kernels.
#[derive(Subcommand, Debug)]
pub(crate) enum Kernels {
    /// List the catalog: name, whether it is built, and where it comes from
    List {
        #[command(flatten)]
        source: KernelSource,
    },
    /// Build kernels of the catalog into the store, unless they are there
    #[command(after_help = "\
A kernel takes about 165 MB of download, 3 GB of disk while it is built, 90 MB afterwards, and six minutes on two cores.
The same catalog entry gives the same bytes wherever it is built with the same compiler.")]
    Build {
        /// Names of `luqual kernels list`
        #[arg(required = true, value_name = "VERSION")]
        versions: Vec<String>,
        /// Build again what is there
        #[arg(long)]
        rebuild: bool,
        #[command(flatten)]
        source: KernelSource,
    },
    /// Show what is known of a kernel: release, ABI strings, abilities, sizes
    Show {
        /// A name of `luqual kernels list`, a bzImage, or the folder of a kernel that was built
        #[arg(value_name = "VERSION|PATH")]
        kernel: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: KernelSource,
    },
}

/// Runs it.
pub(crate) async fn run(command: &Kernels) -> Result<Exit, CliError> {
    match command {
        Kernels::List { source } => list(&source.store()?),
        Kernels::Build { versions, rebuild, source } => build(&source.store()?, versions, *rebuild).await,
        Kernels::Show { kernel, json, source } => show(&source.store()?, kernel, *json),
    }
}

fn list(store: &Store) -> Result<Exit, CliError> {
    for entry in store.catalog().entries() {
        let state = if store.ready(entry)?.is_some() { "built" } else { "not built" };
        output::line(format_args!("{:<15} {state:<10} {}", entry.version, entry.provenance()))?;
    }
    Ok(Exit::Ok)
}

async fn build(store: &Store, versions: &[String], rebuild: bool) -> Result<Exit, CliError> {
    for entry in entries(store, versions)? {
        if rebuild {
            store.forget(entry)?;
        }
        let kernel = store.resolve(&entry.version, &Shown::new()).await?;
        output::line(format_args!("{:<15} built      {}", entry.version, kernel.image.display()))?;
    }
    Ok(Exit::Ok)
}

/// The entries of these names; all are looked at before anything is made of the first.
pub(crate) fn entries<'a>(store: &'a Store, versions: &[String]) -> Result<Vec<&'a Entry>, CliError> {
    versions.iter().map(|version| store.catalog().find(version).ok_or_else(|| unknown(store, version))).collect()
}

fn unknown(store: &Store, version: &str) -> CliError {
    CliError::usage(format!("the catalog has no kernel `{version}`"))
        .hint(format!("it has {}", store.catalog().versions().join(", ")))
}

fn show(store: &Store, spec: &str, json: bool) -> Result<Exit, CliError> {
    let Some(Kernel { info, .. }) = store.find(spec)? else {
        return Err(CliError::usage(format!("kernel {spec} is not built")).hint(format!("luqual kernels build {spec}")));
    };
    if json {
        let text = serde_json::to_string_pretty(&info).map_err(CliError::file("JSON"))?;
        output::line(&text)?;
    } else {
        output::print(description(&info, store.catalog().find(spec)))?;
    }
    Ok(Exit::Ok)
}

fn description(info: &KernelInfo, entry: Option<&Entry>) -> String {
    let unknown = || "unknown".to_owned();
    let ability = |ability: Ability| match &info.abilities {
        None => format!("{ability} unknown"),
        Some(abilities) => format!("{ability} {}", if abilities.contains(&ability) { "yes" } else { "no" }),
    };
    let mut lines = vec![
        ("name", info.name.clone()),
        ("release", info.release.clone()),
        ("build id", info.build_id.clone().unwrap_or_else(unknown)),
        ("provenance", info.provenance.clone()),
        ("sha256", info.image_sha256.clone()),
        ("ABI strings", info.abi.as_ref().map_or_else(unknown, |abi| abi.join(", "))),
        ("abilities", Ability::ALL.map(ability).join(", ")),
        ("command line", info.command_line.clone()),
    ];
    for (index, patch) in info.patches.iter().enumerate() {
        lines.push(("patch", format!("{}. {} (sha256 {})", index + 1, patch.subject, patch.sha256)));
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
            build_id: None,
            image_sha256: "ab".into(),
            provenance: "file x".into(),
            abi: None,
            abilities: None,
            command_line: String::new(),
            patches: Vec::new(),
            facts: BTreeMap::new(),
        };
        assert!(description(&info, None).contains("KHO unknown, LUO unknown"));
        info.abilities = Some(BTreeSet::from([Ability::Luo]));
        info.abi = Some(vec!["kho-v4".into(), "luo-v5".into()]);
        info.patches = vec![Patch { subject: "liveupdate: louder".into(), sha256: "cd".into() }];
        let text = description(&info, None);
        assert!(text.contains("patch              1. liveupdate: louder (sha256 cd)\n"), "{text}");
        assert!(text.contains("KHO no, LUO yes") && text.contains("kho-v4, luo-v5"), "{text}");
    }
}
