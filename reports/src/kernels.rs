//! What reports say of the patches that kernels carry. Subjects are anybody's text: one line each, and never markup.

use crate::words::line;
use luqual_model::KernelInfo;
use maud::{Markup, html as markup};

/// How many subjects a line has.
const SUBJECTS: usize = 3;

/// How many characters of each.
const CHARACTERS: usize = 72;

/// A line for each kernel that carries patches.
pub(crate) fn lines<'a>(kernels: impl IntoIterator<Item = &'a KernelInfo>) -> Vec<String> {
    patched(kernels).map(|info| line(&format!("{} carries {}", info.name, carried(info)))).collect()
}

/// The same as a name and a value each.
pub(crate) fn facts<'a>(kernels: impl IntoIterator<Item = &'a KernelInfo>) -> Vec<(String, String)> {
    patched(kernels).map(|info| (format!("kernel {}", info.name), format!("carries {}", carried(info)))).collect()
}

/// All subjects, numbered.
pub(crate) fn listed<'a>(kernels: impl IntoIterator<Item = &'a KernelInfo>) -> Markup {
    markup! {
        @for info in patched(kernels) {
            p { (info.name) " carries " (count(info)) ":" }
            ol { @for patch in &info.patches { li { (patch.subject) " " code.off { "sha256 " (patch.sha256) } } } }
        }
    }
}

fn patched<'a>(kernels: impl IntoIterator<Item = &'a KernelInfo>) -> impl Iterator<Item = &'a KernelInfo> {
    kernels.into_iter().filter(|info| !info.patches.is_empty())
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
}
