//! A selftest on machines that are not there: what it says of faults that are found, that are not, and that are found
//! by others too.

use super::room::{NEW, OLD, Room};
use crate::error::ErrorKind;
use crate::fakes::Ends;
use crate::request::{KernelSource, MachineChoice};
use crate::selftest::{SelftestRequest, Tested, selftest};
use std::cell::RefCell;

fn request(room: &Room, faults: &[&str]) -> SelftestRequest {
    SelftestRequest {
        faults: faults.iter().map(|name| (*name).to_owned()).collect(),
        pair: (room.path(OLD).display().to_string(), room.path(NEW).display().to_string()),
        jobs: Some(1),
        machine: MachineChoice::default(),
        kernels: KernelSource::default(),
        report_dir: Some(room.path("selftest")),
    }
}

async fn tested(room: &Room, faults: &[&str]) -> Vec<Tested> {
    let told = RefCell::new(0);
    let all = selftest(&room.context(), &request(room, faults), &|_| *told.borrow_mut() += 1).await;
    let all = all.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(*told.borrow(), all.len());
    all
}

/// The first boot is clean; in all others the content of the memfd `4k` is lost.
fn loses() -> Room {
    Room::whose(|booted, _| if booted.number == 0 { Ends::Well } else { Ends::Lost })
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_found_by_the_probe_of_the_table_and_by_no_other() {
    let room = loses();
    let all = tested(&room, &["memory.last-byte-of-a-page", "memory.first-byte", "control.unpreserved-page"]).await;
    let names: Vec<(&str, bool)> = all.iter().map(|tested| (tested.fault.name, tested.is_found())).collect();
    let known =
        [("control.unpreserved-page", false), ("memory.last-byte-of-a-page", true), ("memory.first-byte", false)];
    assert_eq!(names, known);
    let known = [
        "the probe `memfd 64m content` did not find it",
        "the probe `memfd host: pages of 64m after the kexec` did not find it",
        "the probe `memfd 4k content` failed too",
        "the probe `memfd host: pages of 4k after the kexec` failed too",
    ];
    assert_eq!(all[2].differences, known);
    assert_eq!(all[0].differences[0], "expected survived, observed lost");
    assert_eq!(room.boots(), 4, "one clean boot, and one for each fault");
    assert!(all[0].folder.join("console.log").exists(), "{}", all[0].folder.display());
    assert!(room.heard.borrow().is_empty(), "the runs are not told as runs");
}

#[tokio::test(start_paused = true)]
async fn a_survival_is_not_found() {
    let all = tested(&Room::new(), &["size.longer"]).await;
    assert!(!all[0].is_found());
    let known = ["expected lost, observed survived", "the probe `memfd 4k size` did not find it"];
    assert_eq!(all[0].differences, known);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_faults_in_a_workload_that_does_not_survive_without_one() {
    let room = Room::whose(|_, _| Ends::Lost);
    let all = tested(&room, &["memory.last-byte-of-a-page"]).await;
    assert!(!all[0].is_found());
    assert!(all[0].observed.as_ref().is_err_and(|why| why.starts_with("without a fault memfd.basic ends lost")));
    assert_eq!(room.boots(), 1, "the fault was not injected");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_begin_is_refused_and_what_the_user_ends_is_ended() {
    let room = loses();
    let refused = async |faults: &[&str]| {
        selftest(&room.context(), &request(&room, faults), &|_| {}).await.err().map(|error| error.kind())
    };
    assert_eq!(refused(&["tea.*"]).await, Some(ErrorKind::Usage));
    assert_eq!(refused(&["memory.first-byte"]).await, None);
    assert_eq!(refused(&["memory.first-byte"]).await, Some(ErrorKind::Usage), "the folder has runs");
    std::fs::remove_dir_all(room.path("selftest")).unwrap();
    room.ends_after(Some(0));
    assert_eq!(refused(&["memory.middle"]).await, Some(ErrorKind::Interrupted));
}
