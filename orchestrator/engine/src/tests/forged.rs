//! Folders of runs that somebody else has made: nothing outside of them is read, written or removed, and nothing that
//! they name is built.

use super::room::{NEW, OLD, Room, copy_cut};
use crate::bundle::{BundleRequest, pack};
use crate::fakes::Ends;
use crate::folder::IfExists;
use crate::repro::{ReproRequest, repro};
use crate::request::{KernelSource, Pairs, RunRequest};
use luqual_model::Outcome;
use luqual_runner::JOURNAL;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const ONE: [&str; 1] = ["kexec.long-command-line"];

fn bundle_of(room: &Room) -> BundleRequest {
    BundleRequest {
        run: room.path("run"),
        cell: ONE[0].to_owned(),
        output: room.path("b.tar.gz"),
        kernels: KernelSource::default(),
    }
}

/// A git tree whose Makefile leaves a file behind.
fn trap(tree: &Path, caught: &Path) {
    fs::create_dir(tree).unwrap();
    let makefile = format!("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n$(shell touch {})\nall %:\n", caught.display());
    fs::write(tree.join("Makefile"), makefile).unwrap();
    for words in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "x"]] {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        assert!(Command::new("git").current_dir(tree).args(identity).args(words).status().unwrap().success());
    }
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_a_record_names_is_not_built() {
    let room = Room::whose(|_, _| Ends::Lost);
    // A file whose name is that of a commit, for a record that is whole.
    room.kernel("tree@HEAD", OLD);
    let name = room.path("tree@HEAD").display().to_string();
    let pair = Pairs::One(name.clone(), room.path(NEW).display().to_string());
    let request = RunRequest { ..room.request(&ONE) };
    let mut request = RunRequest { selection: request.selection, execution: request.execution, ..RunRequest::of(pair) };
    request.report_dir = Some(room.path("run"));
    room.run(&request).await;
    let journal = fs::read(room.path("run").join(JOURNAL)).unwrap();
    let head = 1 + journal.iter().position(|byte| *byte == b'\n').unwrap();
    copy_cut(&room.path("run"), &room.path("cut"), head);

    fs::remove_file(&name).unwrap();
    let caught = room.path("caught");
    trap(&room.path("tree"), &caught);
    let boots = room.boots();
    Room::refused(room.try_resume("cut").await, "is not here");
    for anyway in [false, true] {
        let request = ReproRequest { anyway, ..room.repro_request(ONE[0]) };
        let error = repro(&room.context(), &request).await.err().unwrap();
        assert!(error.to_string().contains("is not here"), "{error}");
    }
    let error = pack(&room.context(), &bundle_of(&room)).await.err().unwrap();
    assert!(error.to_string().contains("is not here"), "{error}");
    assert!(!caught.exists(), "make was run in a tree that a record names");
    assert_eq!(room.boots(), boots);
    // A record without the kernel: it was cut off while the kernel was built.
    let text = String::from_utf8(journal[..head].to_vec()).unwrap();
    let mut first: serde_json::Value = serde_json::from_str(&text).unwrap();
    first["run"]["kernels"].as_object_mut().unwrap().remove(&name).unwrap();
    fs::write(room.path("cut").join(JOURNAL), format!("{first}\n")).unwrap();
    Room::refused(room.try_resume("cut").await, "never had its kernel");
    assert!(!caught.exists());
}

#[tokio::test(start_paused = true)]
async fn a_folder_with_links_is_not_resumed_and_what_they_lead_to_stays() {
    for (link, to) in [("cells", "outside"), ("cells/CELL", "outside/CELL"), ("cells/CELL/console.log", "outside/log")]
    {
        let room = Room::new();
        room.run(&room.request(&ONE)).await;
        let cell = room.json("run").cells[0].id.to_string();
        let journal = fs::read_to_string(room.path("run").join(JOURNAL)).unwrap();
        // Everything but the end of the cell.
        let cut = journal.find("\"event\":\"cell-finished\"").map(|at| journal[..at].rfind('\n').unwrap() + 1).unwrap();
        copy_cut(&room.path("run"), &room.path("cut"), cut);
        fs::create_dir_all(room.path("outside").join(&cell)).unwrap();
        fs::write(room.path("outside").join(&cell).join("mine"), "mine").unwrap();
        fs::write(room.path("outside/log"), "mine").unwrap();
        let link = room.path("cut").join(link.replace("CELL", &cell));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(room.path(&to.replace("CELL", &cell)), &link).unwrap();
        let boots = room.boots();
        Room::refused(room.try_resume("cut").await, "is not a file or a folder of a run");
        assert_eq!(room.boots(), boots);
        assert_eq!(fs::read(room.path("outside").join(&cell).join("mine")).unwrap(), b"mine");
        assert_eq!(fs::read(room.path("outside/log")).unwrap(), b"mine");
        assert_eq!(fs::read_dir(room.path("outside").join(&cell)).unwrap().count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_a_link_is_no_journal() {
    let room = Room::new();
    room.run(&room.request(&ONE)).await;
    fs::create_dir(room.path("linked")).unwrap();
    symlink(room.path("run").join(JOURNAL), room.path("linked").join(JOURNAL)).unwrap();
    Room::refused(room.try_resume("linked").await, "symbolic link");
    assert!(crate::folder::read_run(&room.path("linked")).is_err());
    let mut request = room.request(&ONE);
    request.report_dir = Some(room.path("linked"));
    Room::refused(room.try_run(&request, IfExists::Resume).await, "symbolic link");
    assert!(room.path("linked").join(JOURNAL).exists());
}

#[tokio::test(start_paused = true)]
async fn evidence_that_is_a_link_is_in_no_bundle() {
    let room = Room::whose(|_, _| Ends::Lost);
    room.run(&room.request(&ONE)).await;
    let cell = room.path("run").join(&room.json("run").cells[0].folder);
    fs::create_dir_all(room.path("outside")).unwrap();
    fs::write(room.path("outside/secret"), "secret").unwrap();
    fs::remove_dir_all(&cell).unwrap();
    symlink(room.path("outside"), &cell).unwrap();
    let error = pack(&room.context(), &bundle_of(&room)).await.err().unwrap();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert!(!room.path("b.tar.gz").exists());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_luquals_is_not_removed() {
    let room = Room::new();
    let mut request = room.request(&ONE);
    fs::create_dir(room.path("mine")).unwrap();
    request.report_dir = Some(room.path("mine"));
    for mine in ["a log of mine, without an end of line", "{\"event\": 1}\n"] {
        fs::write(room.path("mine").join(JOURNAL), mine).unwrap();
        for existing in [IfExists::Fail, IfExists::Resume] {
            assert!(room.try_run(&request, existing).await.is_err());
            assert_eq!(fs::read_to_string(room.path("mine").join(JOURNAL)).unwrap(), mine);
        }
    }
    fs::remove_file(room.path("mine").join(JOURNAL)).unwrap();
    fs::write(room.path("mine/report.html"), "mine").unwrap();
    assert!(room.try_run(&request, IfExists::Fail).await.is_err());
    assert_eq!(fs::read_to_string(room.path("mine/report.html")).unwrap(), "mine");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_replaced_during_a_run_is_noticed() {
    let room = Room::new();
    let image = room.path(NEW);
    room.machines.end(move |boot, workload| {
        if boot.number == 0 && workload.is_empty() {
            // Bytes after the kernel, which change no fact of it.
            fs::write(&image, [fs::read(&image).unwrap(), b"x".to_vec()].concat()).unwrap();
        }
        Ends::Well
    });
    room.run(&room.request(&["kexec.kho-off", "kexec.long-command-line"])).await;
    let cells = room.json("run").cells;
    let replaced = |it: &luqual_model::CellRecord| {
        it.outcome == Outcome::HarnessFailed && it.title.contains("was replaced during the run")
    };
    assert_eq!(cells.iter().filter(|it| replaced(it)).count(), 1, "{:?}", cells.iter().map(|it| &it.title));
}

#[tokio::test(start_paused = true)]
async fn one_kernel_named_twice_is_a_mistake_that_is_told_before_the_run() {
    let room = Room::new();
    room.kernel("other-name", OLD);
    let kernels = [OLD, NEW, "other-name"].map(|name| room.path(name));
    let matrix = format!("[matrix.update]\nkernels = {kernels:?}\npairs = \"all\"\nworkloads = {ONE:?}\n");
    fs::write(room.path("m.toml"), matrix).unwrap();
    let done = room.try_run(&room.request(&ONE), IfExists::Fail).await;
    let told =
        format!("`{}`, the kernel 1 of its list, and `{}`, the kernel 3", kernels[0].display(), kernels[2].display());
    Room::refused(done, &told);
    assert!(!room.path("run").exists());
}
