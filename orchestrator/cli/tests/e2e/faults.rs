//! Injected faults: each is found where it is, and nowhere else.

use crate::common::{NEW, OLD, assert_nothing_left, luqual, run_in, run_pair, text};
use luqual_model::{CellRecord, Outcome, Phase, Status};
use std::path::Path;
use std::process::Output;

/// Runs one cell and returns it beside the output.
fn run_cell(folder: &Path, pair: [&str; 2], workload: &str, more: &[&str]) -> (CellRecord, Output) {
    let [source, target] = pair;
    let words = ["run", "--source", source, "--target", target, "--report-dir", "run", "--workload", workload];
    let output = luqual(folder).args(words).args(more).output().unwrap();
    let mut cells = run_in(folder).cells;
    assert_eq!(cells.len(), 1, "{}", text(&output));
    assert_nothing_left(folder);
    (cells.remove(0), output)
}

/// Flips a byte of a page of a memfd.
fn flip(memfd: &str, page: u64, offset: u64) {
    let folder = tempfile::tempdir().unwrap();
    let fault = format!("flip:{memfd}:{page}:{offset}");
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--inject", &fault]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Lost, Some(1)), "{cell:?}");
    let failed: Vec<_> = cell.probes.iter().filter(|probe| !probe.passed).collect();
    let names: Vec<_> = failed.iter().map(|probe| probe.name.as_str()).collect();
    // The memory was right until then.
    assert_eq!(names, [format!("memfd host: pages of {memfd} after the kexec"), format!("memfd {memfd} content")]);
    for probe in failed {
        let observed = &probe.observed;
        assert!(observed.starts_with(&format!("page {page} offset {offset} is ")), "{observed}");
        assert!(observed.ends_with("(differing pages: 1)"), "{observed}");
    }
    assert_eq!((cell.injected, cell.phase), (Some(fault), Phase::Retrieve));
}

#[test]
fn the_host_finds_what_a_guest_that_lies_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (cell, output) = run_pair(folder.path(), OLD, NEW, &["--inject", "flip-hidden:64m:3:17"]);
    assert_eq!((cell.outcome, output.status.code()), (Outcome::Lost, Some(1)), "{cell:?}");
    let failed: Vec<_> = cell.probes.iter().filter(|probe| !probe.passed).map(|probe| probe.name.as_str()).collect();
    assert_eq!(failed, ["memfd host: pages of 64m after the kexec"]);
    assert!(cell.probes.iter().any(|probe| probe.name == "memfd 64m content" && probe.passed), "{cell:?}");
}

#[test]
fn a_flipped_first_byte_is_found_where_it_is() {
    flip("1", 0, 0);
}

#[test]
fn a_flipped_byte_of_the_page_after_a_mebibyte_is_found_where_it_is() {
    flip("1m+1", 256, 0);
}

#[test]
fn a_flipped_last_byte_is_found_where_it_is() {
    flip("64m", 16383, 4095);
}

#[test]
fn a_fault_has_a_boot_of_its_own_in_each_workload() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["run", "--source", OLD, "--target", NEW, "--report-dir", "run", "--inject", "flip:4k:0:0"];
    let workloads = ["--workload", "luo.session-closed", "--workload", "memfd.basic"];
    let output = luqual(folder.path()).args(words).args(workloads).output().unwrap();
    let run = run_in(folder.path());
    let ends: Vec<_> = run.cells.iter().map(|cell| (cell.plan.key.workload.as_str(), cell.outcome)).collect();
    assert_eq!(ends, [("luo.session-closed", Outcome::Skipped), ("memfd.basic", Outcome::Lost)], "{}", text(&output));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

/// A fault of a device, the workload and the machine that it is injected into, and the probes that have to find it.
fn device_fault(fault: &str, workload: &str, profile: &str, probes: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let inject = ["--profile", profile, "--inject", &format!("device:{fault}")];
    let (cell, output) = run_cell(folder.path(), [NEW, NEW], workload, &inject);
    assert_eq!((cell.outcome, cell.status), (Outcome::Lost, Status::Unexpected), "{}", text(&output));
    assert_eq!(cell.failed_probes(), probes.iter().copied().collect(), "{fault}: {cell:?}");
}

#[test]
fn a_moved_bar_is_found_at_its_level_and_nowhere_else() {
    device_fault("bar-moved", "vfio.edu.idle", "vfio-intel", &["D0 BARs", "D0 host: place"]);
}

#[test]
fn a_lost_interrupt_is_found_at_its_level_and_nowhere_else() {
    device_fault("interrupt-lost", "vfio.edu.idle", "vfio-intel", &["D1 interrupt"]);
}

#[test]
fn a_write_of_a_device_is_found_at_its_level_and_nowhere_else() {
    // It writes while no IOMMU translates, of which QEMU's trace can say nothing.
    let probes = ["D2 host: bus mastering", "D2 preserved pages", "D2 host: preserved pages", "witness host: hears"];
    device_fault("dma-write", "vfio.edu.idle", "vfio-intel", &probes);
}

#[test]
fn a_reset_is_found_at_its_level_and_nowhere_else() {
    device_fault("reset", "vfio.nvme.idle", "vfio-intel", &["D2 host: resets before the open"]);
}

#[test]
fn an_unplugged_device_is_found_at_its_level_and_nowhere_else() {
    let probes = ["D0 presence", "D0 host: place", "D2 host: resets before the open"];
    device_fault("unplugged", "vfio.edu.idle", "vfio-root-port", &probes);
}

#[test]
fn a_fault_that_a_device_cannot_have_is_skipped_and_says_why() {
    for (fault, workload, why) in [
        ("reset", "vfio.edu.idle", "edu"),
        ("unplugged", "vfio.edu.idle", "edu"),
        ("dma-write", "memfd.basic", "device"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let inject = ["--inject", &format!("device:{fault}")];
        let (cell, output) = run_cell(folder.path(), [NEW, NEW], workload, &inject);
        assert_eq!(cell.outcome, Outcome::Skipped, "{}", text(&output));
        assert!(cell.title.contains(why), "{cell:?}");
    }
}

/// What is falsified in a virtual machine, and the probes that do not hold then.
fn machine_fault(fault: Option<&str>, probes: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let inject = fault.map(|fault| format!("machine:{fault}"));
    let inject: Vec<&str> = inject.iter().flat_map(|inject| ["--inject", inject]).collect();
    let (cell, output) = run_cell(folder.path(), [OLD, NEW], "vmm.basic-program", &inject);
    let end = if fault.is_some() { Outcome::Lost } else { Outcome::Survived };
    assert_eq!(cell.outcome, end, "{}", text(&output));
    assert_eq!(cell.failed_probes(), probes.iter().copied().collect(), "{fault:?}: {cell:?}");
}

#[test]
fn a_virtual_machine_in_which_nothing_is_falsified_survives() {
    machine_fault(None, &[]);
}

#[test]
fn a_falsified_register_of_a_virtual_machine_is_found() {
    machine_fault(Some("register"), &["machine general registers"]);
}

#[test]
fn a_falsified_fpu_of_a_virtual_machine_is_found() {
    machine_fault(Some("fpu"), &["machine FPU, SSE and AVX state"]);
}

#[test]
fn a_falsified_msr_of_a_virtual_machine_is_found() {
    machine_fault(Some("msr"), &["machine MSRs"]);
}

#[test]
fn a_falsified_page_of_a_virtual_machine_is_found() {
    machine_fault(Some("page"), &["machine memory pages", "machine memory chain"]);
}

#[test]
fn a_lost_interrupt_of_a_virtual_machine_is_found() {
    machine_fault(Some("interrupt"), &["machine interrupts to itself"]);
}

#[test]
fn a_lost_timer_of_a_virtual_machine_is_found() {
    machine_fault(Some("timer"), &["machine work", "machine timers"]);
}

#[test]
fn a_falsified_clock_of_a_virtual_machine_is_found() {
    machine_fault(Some("clock"), &["machine clock over the update", "machine host: clock over the update"]);
}
