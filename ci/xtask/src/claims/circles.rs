//! Which file of a crate imports from which, and where that goes round. A crate can be read bottom-up where no circle has more
//! than two files.
//!
//! What counts is a path in code that leads into another file of the crate: `use crate::a::B`, `super::a::b()`, `a::b()` with a
//! module a, also in the arguments of macros. A name that a module passes on (`pub use a::B`) is one of the file that it
//! comes from, and the module itself does not import it by that. What has no path, such as a method of a type from elsewhere, is not seen; items for tests do not count.

use super::arrows::Crate;
use super::exceptions::Exceptions;
use super::source::{attributes, is_for_tests, relative};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::Visit;

/// From a file to the files that it imports from.
pub(super) type Graph = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// The files in circles that are no exceptions, and exceptions that are none.
pub(crate) fn wrong(root: &Path, crates: &[Crate], exceptions: &Exceptions) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let none = BTreeSet::new();
    for one in crates {
        let known = exceptions.circles.get(&one.name).unwrap_or(&none);
        let mut found = BTreeSet::new();
        for file in &one.roots {
            for circle in circles(&graph(file)?) {
                let circle: Vec<String> = circle.iter().map(|file| relative(&one.folder, file)).collect();
                if circle.iter().any(|file| !known.contains(file)) {
                    wrong.push(format!("{}: a circle of {} files: {}", one.name, circle.len(), circle.join(", ")));
                }
                found.extend(circle);
            }
        }
        let gone = known.difference(&found);
        wrong.extend(
            gone.map(|file| format!("ci/xtask/exceptions.toml: {}: {file} is in no circle any more", one.name)),
        );
    }
    let names: BTreeSet<&String> = crates.iter().map(|one| &one.name).collect();
    let gone = exceptions.circles.keys().filter(|name| !names.contains(name));
    wrong.extend(gone.map(|name| format!("ci/xtask/exceptions.toml: {name} is no crate of {}", root.display())));
    Ok(wrong)
}

/// A path of names; the crate's root is none.
type Names = Vec<String>;

/// A module, in a file of its own or in its parent's.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// The paths in its items, as they are written.
    paths: Vec<Names>,
    /// Names that come from elsewhere, and from where.
    imports: BTreeMap<String, Names>,
    /// Modules all of whose names it has.
    globs: Vec<Names>,
    /// Names of its own.
    items: BTreeSet<String>,
}

/// The modules of a library or a program, by their paths.
type Modules = BTreeMap<Names, Module>;

pub(super) fn graph(root: &Path) -> Result<Graph, String> {
    let mut modules = Modules::new();
    read(root, root.parent().unwrap_or(Path::new("")), Vec::new(), &mut modules)?;
    let mut graph = Graph::new();
    for (at, module) in &modules {
        let targets = graph.entry(module.file.clone()).or_default();
        for path in &module.paths {
            targets.extend(file_of(&modules, at, path, 0).filter(|file| *file != module.file));
        }
    }
    Ok(graph)
}

/// Reads a file and those of its modules; `folder` is where the latter are.
fn read(file: &Path, folder: &Path, at: Names, modules: &mut Modules) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let syntax = syn::parse_file(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    take(&syntax.items, file, folder, at, modules)
}

/// Where `#[path = "…"]` says that a module is, relative to the file that declares it.
fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn take(items: &[syn::Item], file: &Path, folder: &Path, at: Names, modules: &mut Modules) -> Result<(), String> {
    let mut module = Module { file: file.to_owned(), ..Module::default() };
    for item in items.iter().filter(|item| !is_for_tests(attributes(item))) {
        if let syn::Item::Mod(inner) = item {
            let name = inner.ident.to_string();
            let path = [at.clone(), vec![name.clone()]].concat();
            let below = folder.join(&name);
            match &inner.content {
                Some((_, items)) => take(items, file, &below, path, modules)?,
                None => {
                    let named = path_attribute(&inner.attrs).map(|named| file.with_file_name(named));
                    let usual = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
                    let files: Vec<PathBuf> = named.map_or_else(|| usual.to_vec(), |named| vec![named]);
                    let own = files.iter().find(|file| file.is_file());
                    let own = own.ok_or_else(|| format!("{}: where is mod {name}?", file.display()))?;
                    read(own, &below, path, modules)?;
                }
            }
            continue;
        }
        module.items.extend(name_of(item));
        module.visit_item(item);
    }
    modules.insert(at, module);
    Ok(())
}

fn name_of(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(it) => &it.ident,
        syn::Item::Enum(it) => &it.ident,
        syn::Item::Fn(it) => &it.sig.ident,
        syn::Item::Static(it) => &it.ident,
        syn::Item::Struct(it) => &it.ident,
        syn::Item::Trait(it) => &it.ident,
        syn::Item::Type(it) => &it.ident,
        syn::Item::Macro(it) => it.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

impl Module {
    /// Takes in what a `use` names.
    fn import(&mut self, tree: &syn::UseTree, before: &Names) {
        let joined = |name: &syn::Ident| [before.clone(), vec![name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.import(&path.tree, &joined(&path.ident)),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.imports.insert(before.last().cloned().unwrap_or_default(), before.clone());
            }
            syn::UseTree::Name(name) => {
                self.imports.insert(name.ident.to_string(), joined(&name.ident));
            }
            syn::UseTree::Rename(name) => {
                let path = if name.ident == "self" { before.clone() } else { joined(&name.ident) };
                self.imports.insert(name.rename.to_string(), path);
            }
            syn::UseTree::Glob(_) => self.globs.push(before.clone()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before)),
        }
    }

    /// Takes in the paths in the arguments of a macro.
    fn look(&mut self, tokens: TokenStream) {
        let mut path = Names::new();
        // Colons since the last name.
        let mut colons = 0;
        let mut end = |path: &mut Names| {
            let path = std::mem::take(path);
            if path.len() > 1 {
                self.paths.push(path);
            }
        };
        let mut groups = Vec::new();
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        end(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    end(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        groups.push(group.stream());
                    }
                }
            }
        }
        end(&mut path);
        groups.into_iter().for_each(|tokens| self.look(tokens));
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut named = Self::default();
        named.import(&item.tree, &Names::new());
        // What is only passed on is not needed to read the file.
        if matches!(item.vis, syn::Visibility::Inherited) {
            self.paths.extend(named.imports.values().chain(&named.globs).cloned());
        }
        self.imports.extend(named.imports);
        self.globs.extend(named.globs);
    }

    // `pub(crate)` leads nowhere.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        // A lone name in an expression is a value: a variable, or something that was imported, which counts there.
        if path.path.segments.len() > 1 {
            self.visit_path(&path.path);
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.look(call.tokens.clone());
    }
}

/// The file that a path of a module leads to; none of another crate, or of a name of the module's own.
fn file_of(modules: &Modules, at: &Names, path: &[String], depth: usize) -> Option<PathBuf> {
    // Two modules can each pass on all that the other has.
    if depth > 16 {
        return None;
    }
    let first = path.first()?.as_str();
    let (mut place, mut rest) = match first {
        "crate" => (Names::new(), &path[1..]),
        "self" => (at.clone(), &path[1..]),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            (at[..at.len().checked_sub(ups)?].to_vec(), &path[ups..])
        }
        _ if modules.contains_key(&[at.clone(), vec![first.to_owned()]].concat()) => (at.clone(), path),
        _ => {
            // A name that the module imports; the import itself is looked at for its own sake.
            let import = modules.get(at)?.imports.get(first).filter(|import| import.as_slice() != path)?;
            return file_of(modules, at, &[import.as_slice(), &path[1..]].concat(), depth + 1);
        }
    };
    while let Some((name, left)) = rest.split_first() {
        let inner = [place.clone(), vec![name.clone()]].concat();
        if !modules.contains_key(&inner) {
            break;
        }
        (place, rest) = (inner, left);
    }
    let module = modules.get(&place)?;
    let Some(name) = rest.first() else { return Some(module.file.clone()) };
    if module.items.contains(name) {
        return Some(module.file.clone());
    }
    if let Some(import) = module.imports.get(name) {
        return file_of(modules, &place, import, depth + 1).or_else(|| Some(module.file.clone()));
    }
    let has = |glob: &&Names| {
        let target = place_of(modules, &place, glob);
        target.and_then(|target| modules.get(&target)).is_some_and(|module| module.items.contains(name))
    };
    match module.globs.iter().find(has) {
        Some(glob) => file_of(modules, &place, &[glob.as_slice(), rest].concat(), depth + 1),
        None => Some(module.file.clone()),
    }
}

/// The module that a glob names.
fn place_of(modules: &Modules, at: &Names, path: &Names) -> Option<Names> {
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (Names::new(), &path[1..]),
        "self" => (at.clone(), &path[1..]),
        "super" => (at[..at.len().checked_sub(1)?].to_vec(), &path[1..]),
        _ => (at.clone(), &path[..]),
    };
    let place = [base, rest.to_vec()].concat();
    modules.contains_key(&place).then_some(place)
}

/// The circles of more than two files: sets in which each file leads to each other.
fn circles(graph: &Graph) -> Vec<Vec<PathBuf>> {
    let reach = |from: &PathBuf| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            for next in graph.get(file).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = graph.keys().map(|file| (file, reach(file))).collect();
    let leads = |from: &PathBuf, to: &PathBuf| reached.get(from).is_some_and(|files| files.contains(to));
    let mut found: BTreeSet<Vec<PathBuf>> = BTreeSet::new();
    for file in graph.keys() {
        let circle: Vec<PathBuf> =
            graph.keys().filter(|other| *other == file || leads(file, other) && leads(other, file)).cloned().collect();
        if circle.len() > 2 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The circles of a crate with these files.
    fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let graph = graph(&folder.path().join("lib.rs")).unwrap();
        let name = |file: &PathBuf| file.strip_prefix(folder.path()).unwrap().display().to_string();
        circles(&graph).iter().map(|circle| circle.iter().map(name).collect()).collect()
    }

    const ROUND: [&str; 3] = ["a.rs", "b.rs", "c.rs"];

    #[test]
    fn three_files_that_go_round_are_a_circle_however_they_import() {
        let roots = "mod a; mod b; mod c;";
        let (a, b) = ("use crate::b::B; pub struct A;", "use super::c::{self, C as D}; pub struct B;");
        for c in [
            "use crate::a; pub struct C;",
            "use super::{a::A}; pub struct C;",
            "pub struct C; fn c() -> crate::a::A { todo!() }",
            "pub struct C; fn c() { println!(\"{}\", crate::a::b()) }",
            "pub struct C; mod inner { use crate::a::A; }",
            "use super::a::*; pub struct C;",
        ] {
            assert_eq!(circles_of(&[("lib.rs", roots), ("a.rs", a), ("b.rs", b), ("c.rs", c)]), [ROUND], "{c}");
        }
        for c in ["pub struct C;", "#[cfg(test)] mod tests { use crate::a::A; }", "// crate::a::A\nuse std::a::A;"] {
            let none = Vec::<Vec<String>>::new();
            assert_eq!(circles_of(&[("lib.rs", roots), ("a.rs", a), ("b.rs", b), ("c.rs", c)]), none, "{c}");
        }
    }

    #[test]
    fn a_name_that_is_passed_on_is_one_of_the_file_that_it_comes_from() {
        let lib = "mod a; mod b; mod c; pub use a::A; pub use b::*; pub use c::C;";
        let files = |a: &'static str| [("lib.rs", lib), ("a.rs", a), ("b.rs", "use crate::A; pub struct B;")];
        let c = ("c.rs", "use crate::{A, B}; pub struct C;");
        assert_eq!(circles_of(&[&files("pub struct A;")[..], &[c]].concat()), Vec::<Vec<String>>::new());
        assert_eq!(circles_of(&[&files("use crate::C; pub struct A;")[..], &[c]].concat()), [ROUND]);
        let own = "pub const N: u8 = 0; mod a; mod b; pub use a::A; pub use b::B;";
        let files = |lib| {
            [("lib.rs", lib), ("a.rs", "use crate::N; pub struct A;"), ("b.rs", "use crate::{A, N}; pub struct B;")]
        };
        assert_eq!(circles_of(&files(own)), Vec::<Vec<String>>::new());
        let used = format!("{own} fn n() -> B {{ B }}");
        assert_eq!(circles_of(&files(&used)).len(), 1);
    }

    #[test]
    fn a_variable_is_no_module_and_a_path_of_its_own_leads_where_it_says() {
        let lib = "mod a; mod b; mod c; pub struct L; fn f(b: u8) -> u8 { b }";
        let files = |a| [("lib.rs", lib), ("a.rs", a), ("b.rs", "use crate::a::A; pub struct B;"), ("c.rs", "")];
        assert_eq!(circles_of(&files("use crate::L; pub struct A;")), Vec::<Vec<String>>::new());
        let elsewhere = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "#[path = \"c/there.rs\"] mod b; pub struct A;"),
            ("b.rs", ""),
            ("c/there.rs", "pub struct B;"),
        ];
        assert_eq!(circles_of(&elsewhere), Vec::<Vec<String>>::new());
    }

    #[test]
    fn two_files_are_no_circle_and_files_in_folders_are_found() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; use b::B; pub(crate) struct A;"),
            ("a/b.rs", "mod c; use super::A; pub struct B;"),
            ("a/b/c/mod.rs", "pub struct C;"),
        ];
        assert_eq!(circles_of(&files), Vec::<Vec<String>>::new());
        let mut round = files;
        round[2].1 = "mod c; use self::c::C; use super::A; pub(super) struct B;";
        round[3].1 = "use crate::a::A; pub struct C;";
        assert_eq!(circles_of(&round), [["a/b/c/mod.rs", "a/b.rs", "a.rs"]]);
    }
}
