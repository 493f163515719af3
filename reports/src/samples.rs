//! A record with a cell of every kind.

use crate::record::Record;
use luqual_model::{
    Append, Attempt, Blackout, Bus, CellKey, CellRecord, End, Event, Finding, FindingKind, Frames, HostInfo, Iommu,
    KernelInfo, Outcome, Phase, PhaseEnd, PhaseRecord, PlannedCell, Probe, Profile, RunInfo, Side, Span, Stamped,
    Status,
};
use std::io::{self, Seek, Write};

pub(crate) fn cell(source: &str, target: &str, outcome: Outcome, title: &str) -> CellRecord {
    let key = CellKey {
        source: source.into(),
        target: target.into(),
        profile: "q35-intel".into(),
        workload: "memfd.basic".into(),
    };
    let survived = outcome == Outcome::Survived;
    let plan = PlannedCell { key, prediction: None, expectation: None };
    let status = Status::of(&End::of(outcome, &[]), None);
    CellRecord {
        title: title.into(),
        seed: 7,
        phases: vec![
            PhaseRecord { phase: Phase::Boot, hop: 0, started_us: 0, duration_us: 1_100_000, end: PhaseEnd::Done },
            PhaseRecord {
                phase: Phase::Kexec,
                hop: 0,
                started_us: 1_600_000,
                duration_us: 200_000,
                end: PhaseEnd::Done,
            },
        ],
        probes: vec![Probe {
            name: "memfd 64m content".into(),
            expected: "every byte as it was".into(),
            observed: if survived {
                "every byte as it was".into()
            } else {
                "page 3 offset 17 is 0x01, was 0x00".into()
            },
            passed: survived,
        }],
        blackout: survived.then_some(Blackout {
            duration_us: 912_345,
            resolution_us: 4000,
            last_tick: 1234,
            by_guest_us: None,
        }),
        findings: vec![Finding {
            kind: FindingKind::Kho,
            side: Side::Target,
            hop: 1,
            at_us: 2_000_000,
            line: 200,
            text: "KHO: <script>alert(1)</script>".into(),
            function: None,
        }],
        duration_us: 3_210_000,
        folder: format!("cells/{}", plan.key.id()),
        ..CellRecord::new(plan, outcome, status)
    }
}

/// One of several attempts.
pub(crate) fn attempt(outcome: Outcome, retry: bool) -> Attempt {
    let (title, folder) = (String::new(), "cells/a/attempt-1".to_owned());
    Attempt { outcome, title, tainted: false, seed: 1, duration_us: 1, blackout: None, folder, retry }
}

/// A cell that survived so often.
pub(crate) fn repeated(times: usize) -> CellRecord {
    let mut cell = cell("a", "b", Outcome::Survived, "");
    cell.attempts = vec![attempt(Outcome::Survived, false); times];
    cell
}

/// A cell of every kind.
pub(crate) fn cells() -> Vec<CellRecord> {
    let mut tainted = cell("7.2.12", "7.2.12", Outcome::Survived, "source: WARNING: a at b");
    tainted.tainted = vec!["source: WARNING: a at b".into()];
    tainted.status = Status::Unexpected;
    let mut injected = cell("7.3.4", "7.2.12", Outcome::Lost, "memfd 64m content: expected a, observed b");
    injected.injected = Some("flip:64m:3:17".into());
    vec![
        cell("7.2.12", "7.3.4", Outcome::Survived, ""),
        tainted,
        injected,
        cell("7.3.4", "6.18.15", Outcome::Incompatible, "KHO: disabling KHO revival"),
        cell("6.18.15", "7.3.4", Outcome::Skipped, "the source 6.18.15 is built without LUO"),
        cell("7.3.4", "7.3.4", Outcome::Crashed, "Kernel panic - not syncing: x"),
        cell("6.18.15", "7.2.12", Outcome::HarnessFailed, "QEMU ended (signal: 9 (SIGKILL))"),
        cell("7.2.12", "6.18.15", Outcome::Refused, "reboot LINUX_REBOOT_CMD_KEXEC: EBUSY (the target kernel)"),
    ]
}

/// A run of these; all of them were planned, in this order, and one more that has not ended.
pub(crate) fn record() -> Record {
    let mut plan: Vec<PlannedCell> = cells().into_iter().map(|cell| cell.plan).collect();
    plan.push(cell("6.18.15", "6.18.15", Outcome::Survived, "").plan);
    written(plan, cells())
}

/// A cell of a device, from 7.2.12, of these probes: name, expected, observed.
pub(crate) fn device(
    workload: &str,
    target: &str,
    outcome: Outcome,
    title: &str,
    probes: &[(&str, &str, &str)],
) -> CellRecord {
    let mut cell = cell("7.2.12", target, outcome, title);
    cell.plan.key.workload = workload.into();
    cell.id = cell.plan.key.id();
    let probe = |(name, expected, observed): &(&str, &str, &str)| Probe {
        name: (*name).into(),
        expected: (*expected).into(),
        observed: (*observed).into(),
        passed: expected == observed,
    };
    cell.probes = probes.iter().map(probe).collect();
    cell
}

/// What can become of devices.
pub(crate) fn device_cells() -> Vec<CellRecord> {
    let kept = [("D0 BARs", "6", "6"), ("D1 open", "0", "0"), ("D2 host: IOMMU faults", "none", "none")];
    let state = ("D3 command", "0x0406", "0x0402");
    let descriptor = ("D4 descriptor preserve", "0", "EOPNOTSUPP");
    let lost = [kept.as_slice(), &[("D3 vectors", "4", "4"), state, descriptor]].concat();
    let (known, other) =
        ("D3 command: expected 0x0406, observed 0x0402", "retrieve: ENOENT, after some of it was retrieved");
    let gone = [
        ("D0 BARs", "6", "<b>0</b>"),
        ("D0 ids", "1af4", "1af4"),
        ("D3 command", "0x0406", "0"),
        ("session retrieve", "0", "ENOENT"),
    ];
    let mut tainted = device("vfio.nvme.tainted", "7.3.4", Outcome::Survived, "target: WARNING: a at b", &kept);
    tainted.tainted = vec![tainted.title.clone()];
    let (refusal, panic) = ("preserve: EPERM, after some of it was retrieved", "Kernel panic - not syncing: x");
    let no_vfio = "the source 6.18.15 is built without VFIO";
    let mut skipped = device("vfio.nvme.idle", "7.3.4", Outcome::Skipped, no_vfio, &[]);
    skipped.plan.key.source = "6.18.15".into();
    skipped.id = skipped.plan.key.id();
    vec![
        device("vfio.nvme.idle", "7.3.4", Outcome::Lost, known, &lost),
        device("vfio.nvme.busy", "7.3.4", Outcome::Lost, known, &lost),
        tainted,
        device("vfio.nvme.idle", "7.2.12", Outcome::Survived, "", &kept),
        device("vfio.nvme.busy", "7.2.12", Outcome::Crashed, panic, &kept),
        device("vfio.nvme.late", "7.2.12", Outcome::Lost, refusal, &kept),
        device("vfio.edu.idle", "7.3.4", Outcome::Lost, other, &gone),
        device("vfio.edu.idle", "6.18.15", Outcome::Incompatible, "KHO: disabling KHO revival", &[]),
        skipped,
    ]
}

/// Frames of these spans: when, first, sent, received.
pub(crate) fn frames(spans: &[(&str, u32, u32, u32)], received: &[(u32, u32)]) -> Frames {
    let span = |(when, first, sent, received): &(&str, u32, u32, u32)| Span {
        when: (*when).into(),
        first: *first,
        sent: *sent,
        received: *received,
    };
    Frames { period_us: 1000, spans: spans.iter().map(span).collect(), received: received.to_vec() }
}

/// What can become of frames: a kernel that loses those of the blackout, a control, one that loses none, one that was
/// sent none.
pub(crate) fn framed_cells() -> Vec<CellRecord> {
    let known = "D5 host: frames of the blackout: expected all of 2450, and some, observed 0 of 2450";
    let probes = [("D5 host: frames of the blackout", "all of 2450, and some", "0 of 2450")];
    let framed = |case: &str, target: &str, frames| {
        let mut cell = device(&format!("vfio.e1000e.{case}"), target, Outcome::Lost, known, &probes);
        cell.frames = Some(frames);
        cell
    };
    let stock =
        [("source", 0, 2350, 2342), ("blackout", 2350, 2450, 0), ("target", 4800, 775, 0), ("after", 5575, 25, 25)];
    let control =
        [("source", 0, 370, 370), ("blackout", 370, 2120, 1130), ("target", 2490, 280, 0), ("after", 2770, 30, 30)];
    let kept =
        [("source", 0, 400, 400), ("blackout", 400, 2000, 2000), ("target", 2400, 300, 300), ("after", 2700, 20, 20)];
    let none = [("source", 0, 0, 0), ("blackout", 0, 0, 0)];
    vec![
        framed("busy", "7.2.12", frames(&stock, &[(0, 1016), (1025, 2349), (5575, 5599)])),
        framed("busy", "7.3.4", frames(&kept, &[(0, 2719)])),
        framed("busy", "6.18.15", frames(&none, &[])),
        framed("bus-master", "7.2.12", frames(&control, &[(0, 397), (402, 1503), (2770, 2799)])),
    ]
}

/// A run of these, and of one cell of a device that has not ended.
pub(crate) fn planned_and(cells: Vec<CellRecord>) -> Record {
    let mut plan: Vec<PlannedCell> = cells.iter().map(|cell| cell.plan.clone()).collect();
    plan.push(device("vfio.virtio-net.idle", "7.3.4", Outcome::Survived, "", &[]).plan);
    written(plan, cells)
}

/// A run of other cells.
pub(crate) fn record_of(cells: Vec<CellRecord>) -> Record {
    written(cells.iter().map(|cell| cell.plan.clone()).collect(), cells)
}

/// A machine of that name.
pub(crate) fn machine(name: &str) -> Profile {
    Profile {
        name: name.into(),
        summary: "a machine".into(),
        machine: "q35".into(),
        cpu: "max".into(),
        cpus: 2,
        sockets: 1,
        memory_mib: 1024,
        nodes: Vec::new(),
        iommu: Iommu::Intel,
        bus: Bus::Root,
        devices: Vec::new(),
        qemu: Vec::new(),
        append: Append::default(),
    }
}

/// A run of which no cell has ended.
pub(crate) fn planned(run: RunInfo) -> Record {
    journal(run, Vec::new()).unwrap()
}

/// A run of which these ended.
pub(crate) fn written(planned: Vec<PlannedCell>, cells: Vec<CellRecord>) -> Record {
    try_written(planned, cells).unwrap()
}

/// The same of cells that may contradict themselves.
pub(crate) fn try_written(planned: Vec<PlannedCell>, cells: Vec<CellRecord>) -> io::Result<Record> {
    journal(RunInfo { planned, ..run() }, cells)
}

/// A run that is resumed with a cell that had ended: its first end, and its second one.
pub(crate) fn try_again(first: CellRecord, second: CellRecord) -> io::Result<Record> {
    let run = RunInfo { planned: vec![first.plan.clone()], ..run() };
    let resumed = Event::RunResumed { left: 1, again: vec![first.id.clone()] };
    let ended = |record| Event::CellFinished { record: Box::new(record) };
    read_again(run, [ended(first), resumed, ended(second)])
}

/// A journal, as a run writes it, read again.
fn journal(run: RunInfo, cells: Vec<CellRecord>) -> io::Result<Record> {
    read_again(run, cells.into_iter().map(|record| Event::CellFinished { record: Box::new(record) }))
}

fn read_again(run: RunInfo, events: impl IntoIterator<Item = Event>) -> io::Result<Record> {
    let started = Event::RunStarted { run: Box::new(run) };
    let finished = Event::RunFinished { interrupted: false };
    let mut file = tempfile::tempfile().unwrap();
    for event in std::iter::once(started).chain(events).chain([finished]) {
        let line = serde_json::to_string(&Stamped { at_us: 30_000_000, event }).unwrap();
        writeln!(file, "{line}").unwrap();
    }
    file.rewind().unwrap();
    Record::read(file)
}

fn run() -> RunInfo {
    let host = HostInfo {
        arch: "x86_64".into(),
        release: "6.1.0".into(),
        qemu: "7.2.22".into(),
        accel: "tcg".into(),
        accel_reason: "/dev/kvm: No such file or directory".into(),
        cpus: 2,
        memory: 24 << 30,
    };
    let mut run = RunInfo::new(
        "20260101-000000-abcd".into(),
        "luqual 0.1.0".into(),
        vec!["luqual".into()],
        "2026-01-01T00:00:00Z".into(),
        host,
    );
    for name in ["6.18.15", "7.2.12", "7.3.4"] {
        let info = KernelInfo {
            name: name.into(),
            release: name.into(),
            build_id: Some("ab12".into()),
            image_sha256: "cd34".into(),
            provenance: "a package".into(),
            abi: Some(vec!["kho-v4".into()]),
            command_line: "console=ttyS0".into(),
            ..KernelInfo::default()
        };
        run.kernels.insert(name.into(), info);
    }
    run
}
