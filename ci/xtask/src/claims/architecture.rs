//! Whether one file alone assumes the processor architecture of kernels and machines. What runs in a guest is left out: its
//! nested VMs, their program and their registers are the processor's own.

use super::source::{attributes, is_for_tests};
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

/// The words of a file that only code for one architecture says, each with its line.
pub(crate) fn words(path: &str, syntax: &syn::File, machines: &[String]) -> Vec<(usize, String)> {
    if ITS_OWN.iter().any(|own| path.starts_with(own))
        || !HOST.iter().any(|folder| path.starts_with(folder))
        || is_of_tests(path)
    {
        return Vec::new();
    }
    let mut code = Code { machines, found: Vec::new() };
    code.visit_file(syntax);
    code.found
}

/// Whether a file is compiled for tests alone, by its place.
fn is_of_tests(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    parts.contains(&"tests") || parts.contains(&"benches") || matches!(parts.last(), Some(&("tests.rs" | "samples.rs")))
}

/// The names of luqual's own machines.
pub(crate) fn machines(root: &Path) -> Result<Vec<String>, String> {
    let path = root.join("orchestrator/config/machines.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file: toml::Table = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    let machines = file.get("machine").and_then(toml::Value::as_table);
    let names = machines.ok_or_else(|| format!("{}: it has no machine", path.display()))?;
    Ok(names.keys().cloned().collect())
}

struct Code<'a> {
    machines: &'a [String],
    found: Vec<(usize, String)>,
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
            self.found.push((token.span().start().line, (*word).to_owned()));
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
