//! Whether one file alone assumes the processor architecture of kernels and machines. What runs in a guest is left out: its
//! nested VMs, their program and their registers are the processor's own.

use super::source::{Source, attributes, is_for_tests};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::path::Path;
use syn::visit::Visit;

/// The module that may assume an architecture: its file, and what is in its folder.
const ITS_OWN: [&str; 2] = ["orchestrator/model/src/arch.rs", "orchestrator/model/src/arch/"];

/// The folders of the host's crates.
const HOST: [&str; 2] = ["orchestrator/", "reports/"];

/// What only code for x86-64 says, in lower case. The names of luqual's machines are left out before.
const WORDS: [&str; 17] = [
    "x86",
    "amd64",
    "bzimage",
    "hdrs",
    "q35",
    "i440fx",
    "ttys0",
    "8250",
    "vtd_",
    "amdvi",
    "intel-iommu",
    "amd-iommu",
    "isa-debug-exit",
    "kvm_amd",
    "kvm_intel",
    "tsc",
    "rip:",
];

/// What assumes an architecture, in another file than the one for it.
pub(crate) fn wrong(root: &Path, sources: &[Source]) -> Result<Vec<String>, String> {
    Ok(assumed(sources, &machines(root)?))
}

fn assumed(sources: &[Source], machines: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Source { path, syntax, .. } in sources.iter().filter(|it| may_not_assume(&it.path)) {
        let mut code = Code { machines, found: Vec::new() };
        code.visit_file(syntax);
        wrong.extend(code.found.iter().map(|(line, word)| {
            format!("{path}:{line}: `{word}` assumes an architecture; what depends on it is in luqual_model::ARCH")
        }));
    }
    wrong
}

fn may_not_assume(path: &str) -> bool {
    let starts_with = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    starts_with(&HOST) && !starts_with(&ITS_OWN) && !is_of_tests(path)
}

/// Whether a file is compiled for tests alone, by its place.
fn is_of_tests(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    parts.contains(&"tests") || parts.contains(&"benches") || matches!(parts.last(), Some(&("tests.rs" | "samples.rs")))
}

/// The names of luqual's own machines.
fn machines(root: &Path) -> Result<Vec<String>, String> {
    let path = root.join("orchestrator/config/machines.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file: toml::Table = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    let machines = file.get("machine").and_then(toml::Value::as_table);
    let names = machines.ok_or_else(|| format!("{}: it has no machine", path.display()))?;
    Ok(names.keys().cloned().collect())
}

struct Code<'a> {
    machines: &'a [String],
    /// Each word with its line.
    found: Vec<(usize, &'static str)>,
}

impl Code<'_> {
    fn look(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                // An attribute: a comment of the documentation is one, too.
                TokenTree::Punct(sign) if sign.as_char() == '#' => {
                    if let Some(TokenTree::Group(group)) = tokens.peek()
                        && group.stream().into_iter().next().is_some_and(|word| word.to_string() == "doc")
                    {
                        tokens.next();
                    }
                }
                TokenTree::Group(group) => self.look(group.stream()),
                TokenTree::Ident(_) | TokenTree::Literal(_) => self.word(&token),
                TokenTree::Punct(_) => {}
            }
        }
    }

    fn word(&mut self, token: &TokenTree) {
        let text = self.machines.iter().fold(token.to_string(), |text, machine| text.replace(machine, ""));
        let text = text.to_lowercase();
        if let Some(word) = WORDS.iter().find(|word| text.contains(**word)) {
            self.found.push((token.span().start().line, word));
        }
    }
}

impl<'ast> Visit<'ast> for Code<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            // What is in it is looked at item by item.
            syn::Item::Mod(module) if module.content.is_some() => syn::visit::visit_item(self, item),
            _ => self.look(item.to_token_stream()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assumed_in(path: &str, text: &str) -> Vec<String> {
        assumed(&[Source::parse(path.to_owned(), text).unwrap()], &["q35-intel".to_owned()])
    }

    #[test]
    fn only_one_file_may_assume_an_architecture() {
        for text in [
            "const A: &str = \"arch/x86/boot/bzImage\";",
            "fn a() {\n    b(\"console=ttyS0\");\n}",
            "fn a() { b!(\"{}\", q35()) }",
            "mod a { fn b() { c(\"vtd_dmar_fault\") } }",
            "#[command(after_help = \"give a bzImage\")]\nstruct A;",
        ] {
            let wrong = assumed_in("reports/src/a.rs", text);
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
            assert!(wrong[0].starts_with("reports/src/a.rs:"), "{wrong:?}");
        }
        for text in [
            "/// A bzImage.\nfn a() {} // x86",
            "#[cfg(test)]\nmod tests { const A: &str = \"bzImage\"; }",
            "mod a { #[cfg(test)] fn b() { c(\"ttyS0\") } }",
            "const A: &str = \"q35-intel\";",
        ] {
            assert_eq!(assumed_in("reports/src/a.rs", text), Vec::<String>::new(), "{text}");
        }
        let of = |path: &str| assumed_in(path, "const A: &str = \"q35\";");
        for path in ["images/agent/src/a.rs", "orchestrator/vm/tests/a.rs", "orchestrator/model/src/arch/x86_64.rs"] {
            assert_eq!(of(path), Vec::<String>::new());
        }
        assert_eq!(of("orchestrator/model/src/profile.rs").len(), 1);
    }
}
