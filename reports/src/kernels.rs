//! What reports say of the patches that kernels carry, of configurations, and of kernels that are known by their release
//! alone. Subjects are anybody's text: one line each, and never markup.

use crate::words::line;
use luqual_model::{ConfigBase, KernelInfo};
use maud::{Markup, html as markup};

/// How many subjects a line has.
const SUBJECTS: usize = 3;

/// How many characters of each.
const CHARACTERS: usize = 72;

/// A line for each kernel that carries patches, for each that has the configuration of somebody, and for each whose build
/// id is not known.
pub(crate) fn lines<'a>(kernels: impl IntoIterator<Item = &'a KernelInfo>) -> Vec<String> {
    facts_of(kernels).map(|(info, what)| line(&format!("{} {what}", info.name))).collect()
}

fn facts_of<'a>(kernels: impl IntoIterator<Item = &'a KernelInfo>) -> impl Iterator<Item = (&'a KernelInfo, String)> {
    kernels.into_iter().flat_map(|info| {
        let patches = (!info.patches.is_empty()).then(|| format!("carries {}", carried(info)));
        let base = info.base.as_ref().map(|base| format!("has {}", started(base)));
        let unknown = info.build_id.is_none().then(|| BY_RELEASE.to_owned());
        patches.into_iter().chain(base).chain(unknown).map(move |what| (info, what))
    })
}

/// Of a kernel whose image says no more of it.
const BY_RELEASE: &str =
    "has no build id that luqual can read: a guest proves by its release alone that it runs this kernel";

/// The same as a name and a value each.
pub(crate) fn facts<'a>(kernels: impl IntoIterator<Item = &'a KernelInfo>) -> Vec<(String, String)> {
    facts_of(kernels).map(|(info, what)| (format!("kernel {}", info.name), what)).collect()
}

/// All subjects, numbered.
pub(crate) fn listed<'a>(kernels: impl IntoIterator<Item = &'a KernelInfo>) -> Markup {
    markup! {
        @for info in kernels {
            @if info.build_id.is_none() { p { (info.name) " " (BY_RELEASE) } }
            @if !info.patches.is_empty() {
            p { (info.name) " carries " (count(info)) ":" }
            ol { @for patch in &info.patches { li { (patch.subject) " " code.off { "sha256 " (patch.sha256) } } } }
            }
            @if let Some(base) = &info.base {
            details {
                summary { (info.name) " has " (started(base)) }
                ul { @for (option, values) in &base.changed { li { code { (option) } " " (values) } } }
            }
            }
        }
    }
}

fn started(base: &ConfigBase) -> String {
    let ConfigBase { name, changed, not_built } = base;
    let options = match changed.len() {
        1 => "1 option differs".to_owned(),
        count => format!("{count} options differ"),
    };
    format!("the configuration {name}; {options}, and {not_built} of its modules are not built")
}

fn count(info: &KernelInfo) -> String {
    let count = info.patches.len();
    format!("{count} patch{}", if count == 1 { "" } else { "es" })
}

fn carried(info: &KernelInfo) -> String {
    let mut subjects: Vec<String> = info.patches.iter().take(SUBJECTS).map(|patch| short(&patch.subject)).collect();
    let more = info.patches.len() - subjects.len();
    if more > 0 {
        subjects.push(format!("and {more} more"));
    }
    format!("{}: {}", count(info), subjects.join("; "))
}

fn short(subject: &str) -> String {
    let mut text: String = line(subject).chars().take(CHARACTERS).collect();
    if subject.chars().count() > CHARACTERS {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::Patch;

    fn kernel(name: &str, subjects: &[&str]) -> KernelInfo {
        let patch = |subject: &&str| Patch { subject: (*subject).to_owned(), sha256: "ab".into() };
        let info = crate::samples::record().run.kernels["7.3.4"].clone();
        KernelInfo { name: name.into(), patches: subjects.iter().map(patch).collect(), ..info }
    }

    #[test]
    fn a_line_is_bounded_and_kernels_without_patches_have_none() {
        let long = "x".repeat(1000);
        let kernels =
            [kernel("7.3.4", &[]), kernel("a", &["one"]), kernel("b", &["1", "2\u{1b}[31m", &long, "4", "5"])];
        let lines = lines(&kernels);
        assert_eq!(lines[0], "a carries 1 patch: one");
        assert_eq!(lines[1], format!("b carries 5 patches: 1; 2 [31m; {}…; and 2 more", "x".repeat(CHARACTERS)));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn what_a_configuration_started_from_is_told() {
        let changed = [("CONFIG_LIVEUPDATE".to_owned(), "y, was n".to_owned())].into();
        let base = ConfigBase { name: "config.cloud".into(), changed, not_built: 900 };
        let kernel = KernelInfo { base: Some(base), ..kernel("d", &[]) };
        let told = "d has the configuration config.cloud; 1 option differs, and 900 of its modules are not built";
        assert_eq!(lines([&kernel]), [told]);
        let page = listed([&kernel]).into_string();
        assert!(page.contains("<li><code>CONFIG_LIVEUPDATE</code> y, was n</li>"), "{page}");
    }

    #[test]
    fn a_kernel_that_is_known_by_its_release_alone_is_told() {
        let unread = KernelInfo { build_id: None, ..kernel("c", &[]) };
        let told = lines([&kernel("a", &[]), &unread]);
        assert!(told.len() == 1 && told[0].starts_with("c has no build id that luqual can read"), "{told:?}");
        assert_eq!(facts([&unread])[0].0, "kernel c");
    }
}
