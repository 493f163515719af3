//! The Rust files of the workspace, what of them is code, and where `unsafe` stands.

use super::arrows::Crate;
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// A file.
pub(crate) struct Source {
    /// Relative to the root of the workspace.
    pub(crate) path: String,
    /// Its lines but those of items that are for tests alone; of a file of tests, all.
    pub(crate) lines: usize,
    pub(crate) has_unsafe: bool,
    /// The first line of a comment that documents by an example.
    pub(crate) example: Option<usize>,
    pub(crate) syntax: syn::File,
}

impl Source {
    /// All of the crates, also their tests and build scripts.
    pub(crate) fn all(root: &Path, crates: &[Crate]) -> Result<Vec<Self>, String> {
        let mut files = BTreeSet::new();
        for one in crates {
            let below = ["src", "tests", "benches", "examples"].map(|name| one.folder.join(name));
            for folder in below.iter().filter(|folder| folder.is_dir()) {
                rust_files(folder, &mut files).map_err(|error| format!("{}: {error}", folder.display()))?;
            }
            files.extend(Some(one.folder.join("build.rs")).filter(|file| file.is_file()));
        }
        let read = |file: PathBuf| {
            let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            Self::parse(relative(root, &file), &text)
        };
        files.into_iter().map(read).collect()
    }

    pub(crate) fn parse(path: String, text: &str) -> Result<Self, String> {
        let syntax = syn::parse_file(text).map_err(|error| format!("{path}: {error}"))?;
        let mut tests = Tests::default();
        tests.visit_file(&syntax);
        let of_tests: BTreeSet<usize> = tests.lines.into_iter().flatten().collect();
        let mut unsafety = Unsafe::default();
        unsafety.visit_file(&syntax);
        let is_example = |line: &str| {
            let line = line.trim_start();
            let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            comment.is_some_and(|comment| comment.trim_start().starts_with("```"))
        };
        Ok(Self {
            path,
            syntax,
            lines: text.lines().count() - of_tests.len(),
            has_unsafe: unsafety.found,
            example: text.lines().position(is_example).map(|number| number + 1),
        })
    }
}

/// A path as it is written in ARCHITECTURE.md.
pub(crate) fn relative(root: &Path, file: &Path) -> String {
    let [root, file] = [root, file].map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    file.strip_prefix(&root).unwrap_or(&file).display().to_string()
}

fn rust_files(folder: &Path, files: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(path);
        }
    }
    Ok(())
}

/// Whether an item is compiled for tests alone.
pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    let is_test = |attribute: &syn::Attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

/// The attributes of an item that can be for tests alone.
pub(crate) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(it) => &it.attrs,
        syn::Item::Enum(it) => &it.attrs,
        syn::Item::Fn(it) => &it.attrs,
        syn::Item::Impl(it) => &it.attrs,
        syn::Item::Macro(it) => &it.attrs,
        syn::Item::Mod(it) => &it.attrs,
        syn::Item::Static(it) => &it.attrs,
        syn::Item::Struct(it) => &it.attrs,
        syn::Item::Trait(it) => &it.attrs,
        syn::Item::Type(it) => &it.attrs,
        syn::Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// The lines of items that are for tests alone.
#[derive(Default)]
struct Tests {
    lines: Vec<RangeInclusive<usize>>,
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            self.lines.push(item.span().start().line..=item.span().end().line);
        } else {
            syn::visit::visit_item(self, item);
        }
    }
}

/// Whether the word stands anywhere but in an item for tests.
#[derive(Default)]
struct Unsafe {
    found: bool,
}

impl Unsafe {
    fn look(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(word) if word == "unsafe" => self.found = true,
                TokenTree::Group(group) => self.look(group.stream()),
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Unsafe {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        self.found |= attribute.path().is_ident("unsafe");
        if let syn::Meta::List(list) = &attribute.meta {
            self.look(list.tokens.clone());
        }
    }

    fn visit_expr_unsafe(&mut self, _: &'ast syn::ExprUnsafe) {
        self.found = true;
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.found |= signature.unsafety.is_some();
        syn::visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.found |= item.unsafety.is_some();
        syn::visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.found |= item.unsafety.is_some();
        syn::visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        self.found |= item.unsafety.is_some();
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.look(call.tokens.clone());
    }
}

/// The files with `unsafe` that the block does not name, and those that it names for nothing.
pub(crate) fn wrong_unsafe(sources: &[Source], block: &[&str]) -> Vec<String> {
    let told: BTreeSet<&str> = block.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let found: BTreeSet<&str> = sources.iter().filter(|it| it.has_unsafe).map(|it| it.path.as_str()).collect();
    let more =
        found.difference(&told).map(|path| format!("{path}: it has `unsafe`, and ARCHITECTURE.md does not name it"));
    let less = told.difference(&found).map(|path| format!("ARCHITECTURE.md: {path} has no `unsafe`"));
    more.chain(less).collect()
}

/// Examples in comments, which nextest does not run.
pub(crate) fn wrong_examples(sources: &[Source]) -> Vec<String> {
    let told = |it: &Source| {
        it.example.map(|line| format!("{}:{line}: nobody runs an example in a comment; make it a test", it.path))
    };
    sources.iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse("a.rs".to_owned(), text).unwrap()
    }

    #[test]
    fn lines_of_tests_are_not_counted() {
        assert_eq!(source("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n").lines, 2);
        assert_eq!(source("fn a() {}\n#[cfg(unix)]\nmod x {\n    #[cfg(test)]\n    use a::b;\n}\n").lines, 4);
    }

    #[test]
    fn unsafe_is_found_wherever_it_stands() {
        for text in [
            "fn a() { unsafe { b() } }",
            "unsafe fn a() {}",
            "unsafe impl A for B {}",
            "unsafe extern \"C\" { fn a(); }",
            "#[unsafe(no_mangle)] fn a() {}",
            "fn a() { b!(unsafe { c() }) }",
            "macro_rules! a { () => { unsafe { c() } } }",
            "impl A { unsafe fn a(&self) {} }",
        ] {
            assert!(source(text).has_unsafe, "{text}");
        }
        for text in
            ["// unsafe\nfn a() { \"unsafe\"; }", "#[cfg(test)] mod t { unsafe fn a() {} }", "fn not_unsafe() {}"]
        {
            assert!(!source(text).has_unsafe, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_named_or_named_for_nothing_is_told() {
        let sources = [source("unsafe fn a() {}")];
        assert_eq!(wrong_unsafe(&sources, &["a.rs"]), Vec::<String>::new());
        assert_eq!(wrong_unsafe(&sources, &["b.rs"]).len(), 2);
    }

    #[test]
    fn an_example_is_told_with_its_line() {
        assert_eq!(
            wrong_examples(&[source("fn b() {}\n/// A.\n///\n/// ```\n/// a()\n/// ```\nfn a() {}\n")]).len(),
            1
        );
        assert_eq!(wrong_examples(&[source("// ```\n/// a `b`\nfn a() {}\n")]), Vec::<String>::new());
    }
}
