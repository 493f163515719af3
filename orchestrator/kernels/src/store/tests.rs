//! Builds of a tree that is as good as a kernel's: what its make puts out is there from the start.

use super::*;
use crate::base::Base;

const MAKEFILE: &str = "\
allnoconfig:
\tcp $(KCONFIG_ALLCONFIG) .config
bzImage:
\tmkdir -p arch/x86/boot
\tcp image.in arch/x86/boot/bzImage
\tcp elf.in vmlinux
\tcp map.in System.map
mrproper:
";

/// Such a tree in `folder`, whose System.map says which state of it was built.
fn tree(folder: &Path) -> PathBuf {
    let tree = folder.join("linux");
    fs::create_dir(&tree).unwrap();
    let elf = crate::image::tests::elf();
    let image = crate::image::tests::image(&elf);
    let files: [(&str, &[u8]); 5] = [
        ("Kbuild", b""),
        ("Makefile", MAKEFILE.as_bytes()),
        ("image.in", &image),
        ("elf.in", &elf),
        ("map.in", b"before"),
    ];
    for (name, content) in files {
        fs::write(tree.join(name), content).unwrap();
    }
    tree
}

fn entry(source: Source) -> Entry {
    Entry {
        version: "9.9.9".into(),
        built_as: "9.9.9".into(),
        source,
        patches: None,
        base: Base::AllNo,
        fragment: "CONFIG_A=y\n".into(),
        not_applicable: BTreeMap::new(),
        command_line: String::new(),
    }
}

fn store(root: &Path) -> Store {
    let cache = root.join("cache");
    fs::create_dir_all(&cache).unwrap();
    Store::new(cache, Catalog::load(None).unwrap(), None)
}

/// Somebody who edits a tree when a build comes to a step.
struct Editor {
    step: &'static str,
    tree: PathBuf,
}

impl BuildProgress for Editor {
    fn start(&self, step: &str, _: Option<u64>) {
        if step.starts_with(self.step) {
            fs::write(self.tree.join("map.in"), "edited").unwrap();
        }
    }
    fn at(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn end(&self) {}
}

/// Builds a tree that is edited when the build comes to `step`. Returns the System.map that is filed under the key that the
/// tree had before, and the one under the key that it has then; or the error.
async fn built_while_edited(step: &'static str) -> Result<[Option<String>; 2], KernelError> {
    let folder = tempfile::tempdir().unwrap();
    let (tree, store) = (tree(folder.path()), store(folder.path()));
    let entry = entry(Source::Tree(tree.clone()));
    let before = Recipe::read(&entry).unwrap();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    let made = store.make_in(&work, &before, &Editor { step, tree }).await;
    let after = Recipe::read(&entry).unwrap();
    let filed = [&before, &after].map(|recipe| {
        let folder = store.folder(Kind::Kernels, recipe).unwrap();
        fs::read_to_string(folder.join("System.map")).ok()
    });
    if made.is_err() {
        assert_eq!(filed, [None, None], "something was filed");
    }
    made.map(|()| filed)
}

#[tokio::test]
async fn a_tree_is_filed_under_the_key_of_what_was_built() {
    let before = || Some("before".to_owned());
    assert_eq!(built_while_edited("compiling").await.unwrap(), [before(), None]);
    assert_eq!(built_while_edited("never").await.unwrap(), [before(), before()]);
}

#[tokio::test]
async fn a_tree_that_changes_while_it_is_copied_is_told_and_nothing_is_filed() {
    let error = built_while_edited("copying").await.unwrap_err();
    assert!(matches!(error, KernelError::TreeChanged { .. }), "{error}");
    assert!(error.is_usage() && error.hint().is_some());
}

#[tokio::test]
async fn what_was_built_at_the_same_time_by_another_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, store) = (tree(folder.path()), store(folder.path()));
    let entry = entry(Source::Tree(tree.clone()));
    let recipe = Recipe::read(&entry).unwrap();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    store.make_in(&work, &recipe, &Editor { step: "never", tree }).await.unwrap();
    let kernel = store.folder(Kind::Kernels, &recipe).unwrap();
    let held = lock::try_take(&lock::beside(&kernel)).unwrap();
    store.forget(&entry).unwrap();
    assert!(store.ready(&entry).unwrap().is_some());
    drop(held);
    store.forget(&entry).unwrap();
    assert!(store.ready(&entry).unwrap().is_none());
}

/// A process that is killed removes nothing.
#[test]
fn the_next_start_sweeps_what_a_killed_build_left() {
    let folder = tempfile::tempdir().unwrap();
    let left = ["kernels", "selftests"].map(|kind| folder.path().join("cache").join(kind).join(".build-left"));
    for left in &left {
        fs::create_dir_all(left.join("linux")).unwrap();
        File::create(left.join("lock")).unwrap();
    }
    let used = folder.path().join("cache/kernels/.build-used");
    fs::create_dir_all(&used).unwrap();
    let _held = lock::try_take(&used.join("lock")).unwrap();
    store(folder.path());
    assert!(left.iter().all(|left| !left.exists()) && used.exists());
}
