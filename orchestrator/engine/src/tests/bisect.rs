//! The commits of a git tree are bisected. git and make are real; the tree is one whose Makefile lays kernels down, since
//! a real one would be compiled for ten minutes.

use super::room::{OLD, Room};
use crate::bisect::{BisectRequest, Bisected, Look, Verdict, bisect};
use crate::error::EngineError;
use crate::fakes::Ends;
use crate::request::{Execution, RunsOptions, Selection};
use luqual_kernels::Catalog;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernels that the commits lay down, by their release; one does not build.
const GOOD: &str = "9.3.0-good";
const BAD: &str = "9.3.0-bad";
const COMMITS: [Option<&str>; 7] = [Some(GOOD), Some(GOOD), Some(GOOD), None, Some(GOOD), Some(BAD), Some(BAD)];

fn git(tree: &Path, words: &[&str]) -> String {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    let output = Command::new("git").current_dir(tree).args(identity).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The tree, and its commits from the oldest on.
fn history(room: &Room) -> (PathBuf, Vec<String>) {
    let tree = room.path("linux");
    fs::create_dir(&tree).unwrap();
    git(&tree, &["init", "--quiet"]);
    for release in [GOOD, BAD] {
        room.kernel(release, release);
    }
    // A configuration that has what the catalog demands of a kernel of this series.
    let config = room.path("config");
    let catalog = Catalog::load(None).unwrap();
    let like = catalog.find("7.3.4").unwrap();
    let applies = |line: &&str| !like.not_applicable.keys().any(|option| line.starts_with(&format!("{option}=")));
    fs::write(&config, like.fragment.lines().filter(applies).collect::<Vec<_>>().join("\n")).unwrap();
    let commit = |(number, release): (usize, &Option<&str>)| {
        let laid_down = release.map_or("\tfalse\n".to_owned(), |release| {
            let image = room.path(release);
            format!("\tcp {} arch/x86/boot/bzImage\n\ttouch System.map vmlinux\n", image.display())
        });
        let makefile = format!(
            "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n# {number}\nallnoconfig:\n\tcp {} .config\n\
             bzImage:\n\tmkdir -p arch/x86/boot\n{laid_down}",
            config.display()
        );
        fs::write(tree.join("Makefile"), makefile).unwrap();
        git(&tree, &["add", "."]);
        git(&tree, &["commit", "--quiet", "-m", &format!("change {number}")]);
        git(&tree, &["rev-parse", "HEAD"])
    };
    let commits = COMMITS.iter().enumerate().map(commit).collect();
    (tree, commits)
}

fn request(room: &Room, tree: &Path) -> BisectRequest {
    BisectRequest {
        good: "HEAD~6".to_owned(),
        bad: "HEAD".to_owned(),
        tree: Some(tree.to_owned()),
        among: Vec::new(),
        source: Some(room.path(OLD).to_str().unwrap().to_owned()),
        target: None,
        runs: RunsOptions {
            selection: Selection { matrix_file: Some(room.path("m.toml")), ..Selection::default() },
            execution: Execution { jobs: Some(1), seed: Some(7), ..Execution::default() },
            report_dir: Some(room.path("run")),
            ..RunsOptions::default()
        },
    }
}

/// What is found, and the kernels that were judged.
async fn bisected(room: &Room, request: &BisectRequest) -> (Result<Bisected, EngineError>, Vec<(Verdict, String)>) {
    let judged = RefCell::new(Vec::new());
    let tell = |look: Look<'_>| {
        if let Look::Judged(verdict, name, _) = look {
            judged.borrow_mut().push((verdict, name.split(' ').next().unwrap().to_owned()));
        }
    };
    let found = bisect(&room.context(), request, &tell).await;
    room.is_quiet();
    (found, judged.into_inner())
}

#[tokio::test(start_paused = true)]
async fn the_first_commit_is_found_around_one_that_does_not_build() {
    let room = Room::whose(|boot, _| if boot.target == BAD { Ends::Lost } else { Ends::Well });
    let (tree, commits) = history(&room);
    let request = request(&room, &tree);
    let (found, judged) = bisected(&room, &request).await;
    let Bisected::First { kernel, folder, .. } = found.unwrap() else { panic!("nothing was found: {judged:?}") };
    let short = |commit: &str| commit[..12].to_owned();
    assert_eq!(kernel, format!("{} change 5", short(&commits[5])));
    assert!(judged.contains(&(Verdict::Skip, short(&commits[3]))), "{judged:?}");
    assert_eq!(folder, room.path("run").join(short(&commits[5])));
    // The user's tree is as it was, and the same request finds what is there.
    assert_eq!(git(&tree, &["status", "--porcelain", "--ignored"]), "");
    let boots = room.boots();
    let (again, judged_again) = bisected(&room, &request).await;
    assert!(matches!(again, Ok(Bisected::First { kernel: again, .. }) if again == kernel));
    assert_eq!((judged_again, room.boots()), (judged, boots));
}
