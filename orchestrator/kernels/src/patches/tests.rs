use super::*;
use std::io::ErrorKind;

const DIFF: &str = "diff --git a/init/main.c b/init/main.c\n--- a/init/main.c\n+++ b/init/main.c\n@@ -1,3 +1,3 @@\n one\n\
                    -two\n+TWO\n three\n";
const THEN: &str = "diff --git a/init/main.c b/init/main.c\n--- a/init/main.c\n+++ b/init/main.c\n@@ -1,3 +1,3 @@\n one\n\
                    -TWO\n+2\n three\n";

fn mail(subject: &str, body: &str) -> String {
    format!(
        "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nDate: Mon, 2 Mar 2026 \
         10:00:00 +0000\nSubject: {subject}\n\nWhy.\n---\n main.c | 2 +-\n\n{body}\n"
    )
}

/// A tree with the file that the patches above change.
fn tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("init")).unwrap();
    fs::write(tree.join("init/main.c"), "one\ntwo\nthree\n").unwrap();
    tree
}

fn git_in(folder: &Path, words: &[&str]) {
    let identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
    let output = plain_git(folder).args(identity).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with two commits after the tag `start`.
fn repository(folder: &Path) -> PathBuf {
    let tree = tree(folder);
    git_in(&tree, &["init", "-q", "-b", "mine"]);
    git_in(&tree, &["add", "."]);
    git_in(&tree, &["commit", "-q", "-m", "start"]);
    git_in(&tree, &["tag", "start"]);
    for (text, subject) in [("one\nTWO\nthree\n", "init: louder"), ("one\n2\nthree\n", "[media] init: Grüße\r\n")] {
        fs::write(tree.join("init/main.c"), text).unwrap();
        git_in(&tree, &["commit", "-q", "-a", "-m", subject]);
    }
    tree
}

fn subjects(patches: &[Patch]) -> Vec<&str> {
    patches.iter().map(|patch| patch.subject.as_str()).collect()
}

fn apply_all(patches: &[Patch], tree: &Path, work: &Path) -> Result<String, KernelError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(apply("9.9-mine", patches, tree, work))?;
    Ok(fs::read_to_string(tree.join("init/main.c")).unwrap())
}

/// What is wrong with the series itself.
#[derive(Debug)]
struct Told {
    why: String,
    hint: String,
}

fn why(series: &Series) -> Told {
    match read(series).unwrap_err() {
        Trouble::Series { why, hint } => Told { why, hint },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_is_taken_by_name_plain_diffs_too() {
    let folder = tempfile::tempdir().unwrap();
    let series = folder.path().join("series");
    fs::create_dir(&series).unwrap();
    fs::write(series.join("0002-b.patch"), mail("[PATCH v2 2/2] init: shorter", THEN)).unwrap();
    fs::write(series.join("0001-a.patch"), DIFF).unwrap();
    fs::write(series.join("0000-cover-letter.patch"), mail("[PATCH v2 0/2] a cover", "")).unwrap();
    fs::write(series.join("notes.txt"), "nothing").unwrap();
    let patches = read(&Series::Path(series)).unwrap();
    assert_eq!(subjects(&patches), ["0001-a.patch", "init: shorter"]);
    assert_eq!(apply_all(&patches, &tree(folder.path()), folder.path()).unwrap(), "one\n2\nthree\n");
}

#[test]
fn an_mbox_is_decoded_and_its_answers_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let encoded = mail("[PATCH 1/2] init: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", &DIFF.replace("TWO", "=54WO"))
        .replace("\n\nWhy.", "\nContent-Transfer-Encoding: quoted-printable\n\nWhy.");
    let answer = mail("Re: [PATCH 1/2] init", DIFF);
    let mbox = folder.path().join("series.mbx");
    fs::write(&mbox, mail("[PATCH 0/2] cover", "") + &encoded + &answer + &mail("[PATCH 2/2] init: shorter", THEN))
        .unwrap();
    let patches = read(&Series::Path(mbox)).unwrap();
    assert_eq!(subjects(&patches), ["init: Grüße", "init: shorter"]);
    assert_eq!(apply_all(&patches, &tree(folder.path()), folder.path()).unwrap(), "one\n2\nthree\n");
}

#[test]
fn a_branch_is_the_same_list_whoever_committed_it_and_when() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let lists = folders.each_ref().map(|folder| {
        let repository = repository(folder.path());
        read(&Series::Branch { repository, range: "start..mine".into() }).unwrap()
    });
    assert_eq!(subjects(&lists[0]), ["init: louder", "[media] init: Grüße"]);
    assert_eq!(lists[0], lists[1]);
    let elsewhere = tempfile::tempdir().unwrap();
    let changed = apply_all(&lists[0], &tree(elsewhere.path()), elsewhere.path()).unwrap();
    assert_eq!(changed, "one\n2\nthree\n");
}

#[test]
fn how_a_repository_likes_its_patches_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let repository = repository(folder.path());
    let series = Series::Branch { repository: repository.clone(), range: "start..mine".into() };
    let before = read(&series).unwrap();
    for (key, value) in [
        ("format.subjectPrefix", "RFC x"),
        ("format.coverLetter", "true"),
        ("format.noprefix", "true"),
        ("format.attach", "true"),
        ("format.signature", "me"),
        ("format.numbered", "true"),
        ("diff.noprefix", "true"),
        ("diff.mnemonicPrefix", "true"),
        ("diff.context", "0"),
        ("diff.algorithm", "histogram"),
        ("color.ui", "always"),
    ] {
        git_in(&repository, &["config", key, value]);
    }
    assert_eq!(read(&series).unwrap(), before);
}

#[test]
fn carriage_returns_of_a_file_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let repository = tree(folder.path());
    let file = repository.join("init/main.c");
    git_in(&repository, &["init", "-q", "-b", "mine"]);
    for text in ["one\r\ntwo\r\nthree\r\n", "one\r\n2\r\nthree\r\n"] {
        fs::write(&file, text).unwrap();
        git_in(&repository, &["add", "."]);
        git_in(&repository, &["commit", "-q", "-m", "init: text"]);
    }
    let patches = read(&Series::Branch { repository: repository.clone(), range: "mine~1..mine".into() }).unwrap();
    fs::write(&file, "one\r\ntwo\r\nthree\r\n").unwrap();
    assert_eq!(apply_all(&patches, &repository, folder.path()).unwrap(), "one\r\n2\r\nthree\r\n");
}

#[test]
fn a_tree_inside_of_a_repository_is_patched_too() {
    let folder = tempfile::tempdir().unwrap();
    git_in(folder.path(), &["init", "-q"]);
    let tree = tree(folder.path());
    let patch = Patch { subject: "init: louder".into(), diff: DIFF.into() };
    assert_eq!(apply_all(&[patch], &tree, folder.path()).unwrap(), "one\nTWO\nthree\n");
}

#[test]
fn a_patch_that_does_not_apply_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(folder.path());
    let patch = |subject: &str, diff: &str| Patch { subject: subject.into(), diff: diff.into() };
    let again = [patch("init: louder", DIFF), patch("init: once more", DIFF)];
    let error = apply_all(&again, &tree, folder.path()).unwrap_err();
    let told = error.to_string();
    assert!(told.starts_with("9.9-mine: patch 2 of 2 does not apply: init: once more\n"), "{told}");
    assert!(told.contains("error: patch failed: init/main.c:1"), "{told}");
    assert!(error.is_usage() && error.hint().unwrap().contains("rebase it"));

    fs::write(folder.path().join("main.c"), "one\ntwo\nthree\n").unwrap();
    let outside = DIFF.replace("init/main.c", "../main.c");
    let told = apply_all(&[patch("x", &outside)], &tree, folder.path()).unwrap_err().to_string();
    assert!(told.contains("invalid path '../main.c'"), "{told}");
    assert_eq!(fs::read_to_string(folder.path().join("main.c")).unwrap(), "one\ntwo\nthree\n");
}

#[test]
fn what_is_no_series_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    assert!(why(&Series::Path(path("empty"))).why.starts_with("there is no patch in "));
    assert!(why(&Series::Path(path("nothing"))).why.contains("No such file"));
    fs::write(path("plain"), DIFF).unwrap();
    let plain = why(&Series::Path(path("plain")));
    assert!(plain.why.ends_with("plain is not an mbox") && plain.hint.contains("*.patch"), "{plain:?}");
    fs::write(path("letters"), mail("[PATCH 0/1] cover", "") + &mail("Re: [PATCH 0/1] cover", "")).unwrap();
    assert!(why(&Series::Path(path("letters"))).why.starts_with("there is no patch in "));
    // A patch whose diff was lost must not be left out in silence.
    fs::write(path("lost"), mail("[PATCH 1/2] init: louder", DIFF) + &mail("[PATCH 2/2] init: more", "")).unwrap();
    let lost = why(&Series::Path(path("lost")));
    assert!(lost.why.starts_with("there is no diff in ") && lost.why.ends_with(": init: more"), "{lost:?}");
}

#[test]
fn what_is_no_range_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let repository = repository(folder.path());
    let branch = |range: &str| Series::Branch { repository: repository.clone(), range: range.into() };
    let unknown = why(&branch("v1..mine"));
    assert!(unknown.why.contains("bad revision 'v1..mine'") && unknown.hint.contains("log v1..mine"), "{unknown:?}");
    let empty = why(&branch("mine..mine"));
    assert!(empty.why.starts_with("there is no patch in git ") && empty.hint.contains("log mine..mine"), "{empty:?}");

    git_in(&repository, &["checkout", "-q", "-b", "other", "start"]);
    git_in(&repository, &["commit", "-q", "--allow-empty", "-m", "other"]);
    git_in(&repository, &["merge", "-q", "--no-ff", "-m", "both", "mine"]);
    assert!(why(&branch("start..other")).why.contains("start..other has merges (1)"));

    let missing = Series::Branch { repository: folder.path().join("nothing"), range: "a..b".into() };
    assert!(why(&missing).why.starts_with("there is no repository "));
    let plain = tempfile::tempdir().unwrap();
    let plain = why(&Series::Branch { repository: plain.path().to_owned(), range: "a..b".into() });
    assert!(plain.why.contains("not a git repository"), "{plain:?}");
}

#[test]
fn git_that_is_missing_is_no_mistake_of_the_series() {
    let missing = Trouble::git("x")(Failed::Start(ErrorKind::NotFound.into())).of("9.9-mine");
    assert!(!missing.is_usage() && missing.to_string().starts_with("git is not installed"), "{missing}");
    assert_eq!(missing.hint().unwrap(), "Debian, Ubuntu: apt-get install git");
    let own = Trouble::own(Path::new("/tmp"))(ErrorKind::StorageFull.into()).of("9.9-mine");
    assert!(!own.is_usage(), "{own}");
    assert!(why(&Series::Path("/nowhere".into())).why.starts_with("/nowhere: "));
}

#[test]
fn a_patch_on_top_comes_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.patch"), DIFF).unwrap();
    fs::write(path("b.patch"), THEN).unwrap();
    let series = Series::OnTop { base: Box::new(Series::Path(path("a.patch"))), patch: path("b.patch") };
    assert_eq!(subjects(&read(&series).unwrap()), ["a.patch", "b.patch"]);
    assert_eq!(apply_all(&read(&series).unwrap(), &tree(folder.path()), folder.path()).unwrap(), "one\n2\nthree\n");
}

#[tokio::test]
async fn whether_a_patch_is_applied_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, work) = (tree(folder.path()), folder.path());
    let patch = Patch { subject: "init: louder".into(), diff: DIFF.into() };
    assert_eq!(is_applied(&patch, &tree, work).await.unwrap(), Ok(false));
    apply("9.9", std::slice::from_ref(&patch), &tree, work).await.unwrap();
    assert_eq!(is_applied(&patch, &tree, work).await.unwrap(), Ok(true));
    fs::write(tree.join("init/main.c"), "one\nother\nthree\n").unwrap();
    assert!(is_applied(&patch, &tree, work).await.unwrap().is_err());
    assert!(take_back(&patch, &tree, work).await.unwrap().is_err());
    // A line more of a kind that is there already: git finds a place for it in both directions.
    fs::write(tree.join("init/main.c"), "x\nx\nx\nx\n").unwrap();
    let more = "--- a/init/main.c\n+++ b/init/main.c\n@@ -1,2 +1,3 @@\n x\n+x\n x\n";
    let more = Patch { subject: "init: more".into(), diff: more.into() };
    assert!(is_applied(&more, &tree, work).await.unwrap().is_err());
}

#[test]
fn subjects_are_one_line_without_their_number() {
    for (subject, kind, expected) in [
        ("[PATCH] a: b", Kind::Patch, "a: b"),
        ("[RFC PATCH v3 02/10] a: b", Kind::Patch, "a: b"),
        ("[PATCH net-next 10/10] [media] a: b", Kind::Patch, "[media] a: b"),
        ("[PATCH 00/10] all of it", Kind::Other, "all of it"),
        ("[PATCH mm-0/x 1/2] a", Kind::Patch, "a"),
        ("RE: [PATCH 1/2] a: b", Kind::Other, "RE: [PATCH 1/2] a: b"),
        ("a: \u{1b}[31mred", Kind::Patch, "a:  [31mred"),
    ] {
        assert_eq!(heading(subject), (kind, expected.to_owned()), "{subject}");
    }
    assert_eq!(heading(&"ü".repeat(1000)).1.chars().count(), SUBJECT);
}
