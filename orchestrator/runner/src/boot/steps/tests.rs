use super::*;
use crate::boot::alone::needs_the_host;
use crate::boot::{BootCell, BootKernel, Program};
use luqual_config::own_machine;
use luqual_model::{Accel, Append, CellKey, KernelInfo, PlannedCell, Profile, QemuVersion};
use luqual_protocol::find_workload;
use std::path::PathBuf;

fn kernel(name: &str) -> BootKernel {
    let info = KernelInfo {
        name: name.into(),
        release: name.into(),
        image_sha256: name.into(),
        command_line: format!("console=ttyS0 of={name}"),
        ..KernelInfo::default()
    };
    BootKernel { info, image: PathBuf::new(), symbols: None, modules: Vec::new() }
}

fn planned(profile: &str, workload: &str) -> PlannedCell {
    let [source, target, profile, workload] = ["old", "new", profile, workload].map(str::to_owned);
    PlannedCell { key: CellKey { source, target, profile, workload }, prediction: None, expectation: None }
}

/// What is asked of a boot of that workload; or why it cannot be left alone.
fn asked(workload: &str, fault: Option<&str>) -> Result<Vec<String>, String> {
    let (source, target) = (kernel("old"), kernel("new"));
    let workload = find_workload(workload).unwrap();
    let plan = planned(workload.profile, workload.name);
    let parts = vec![BootCell { workload, plan: &plan, program: None }];
    let profile = own_machine(workload.profile).unwrap();
    let boot = Boot { source: &source, target: &target, profile, parts };
    let fault = fault.map(|it| it.parse::<Fault>().unwrap());
    if let Some(why) = needs_the_host(&boot, fault.as_ref()) {
        return Err(why);
    }
    let identities: Vec<Identity<'_>> =
        (0..=boot.update().hops).map(|hop| boot.identity(hop, hop.into(), "", &Append::default())).collect();
    let mode = boot.mode(QemuVersion(99, 0, 0), Accel::Tcg, Some(7));
    let steps = steps(&boot, 7, &identities, mode, &Deadlines::default());
    let text = requests(&steps, fault.as_ref()).unwrap();
    let word =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["request"].as_str().unwrap().to_owned();
    Ok(text.lines().map(word).collect())
}

#[test]
fn a_script_has_the_phases_in_order() {
    let source = ["hello", "preserve", "load", "kernel-log", "kexec"];
    let target = ["hello", "retrieve", "verify", "finish", "kernel-log"];
    assert_eq!(asked("memfd.basic", None).unwrap(), [source, target].concat());
    assert_eq!(asked("kexec.loaded-before", None).unwrap()[1..3], ["load", "preserve"]);
    let there_and_back = asked("lifecycle.there-and-back", None).unwrap();
    let asked = |what| there_and_back.iter().filter(|it| *it == what).count();
    assert_eq!((asked("kexec"), asked("kernel-log")), (2, 3), "each kernel is asked for its log");
    assert_eq!(there_and_back.last().unwrap(), "kernel-log");
}

#[test]
fn faults_of_the_guests_own_are_planted_and_others_are_not() {
    let with = |fault| asked("memfd.basic", Some(fault));
    assert_eq!(with("flip:64m:3:17").unwrap()[3..6], ["kernel-log", "flip", "kexec"]);
    assert_eq!(with("panic:verify").unwrap()[7..9], ["panic", "verify"]);
    assert_eq!(with("guest:offset:4k").unwrap()[1..3], ["preserve", "tamper"]);
    assert_eq!(with("guest:session-taken:small").unwrap()[5..8], ["hello", "tamper", "retrieve"]);
    assert_eq!(with("guest:longer:4k").unwrap()[6..9], ["retrieve", "tamper", "verify"]);
    for fault in ["kill-agent:verify", "hang:verify", "device:reset", "flip-hidden:64m:3:17"] {
        assert!(with(fault).unwrap_err().ends_with("is injected by the host, which is not deterministic"), "{fault}");
    }
    // In the update that is named, and in no other.
    let steps = asked("lifecycle.there-and-back", Some("flip:control:0:0@1")).unwrap();
    let at = |word: &str| steps.iter().enumerate().filter(|(_, it)| *it == word).map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(at("flip"), [at("kexec")[1] - 1]);
    assert!(asked("vfio.edu.idle", None).unwrap_err().contains("edu, a live device"));
    assert!(asked("vmm.basic-linux", None).unwrap_err().contains("virtual machines"));
}

#[test]
fn a_program_may_run_as_long_as_its_phase_and_other_workloads_are_told_no_limit() {
    let (source, target) = (kernel("old"), kernel("new"));
    let program = luqual_protocol::external("external.mine", "a", "b", false);
    let own = find_workload("memfd.basic").unwrap();
    let plans = [program, own].map(|workload| planned(program.profile, workload.name));
    let parts = vec![
        BootCell { workload: program, plan: &plans[0], program: Some(Program::Here(b"")) },
        BootCell { workload: own, plan: &plans[1], program: None },
    ];
    let profile = own_machine(program.profile).unwrap();
    let boot = Boot { source: &source, target: &target, profile, parts };
    let identities: Vec<Identity<'_>> =
        (0..=1).map(|hop| boot.identity(hop, hop.into(), "", &Append::default())).collect();
    let mut deadlines = Deadlines::default();
    deadlines.set(Phase::Verify, 300);
    let steps = steps(&boot, 7, &identities, boot.mode(QemuVersion(99, 0, 0), Accel::Tcg, None), &deadlines);
    let limits: Vec<Option<u64>> = steps
        .iter()
        .filter_map(|step| match step.request()? {
            Request::Preserve { limit_s, .. } | Request::Verify { limit_s, .. } => Some(limit_s),
            _ => None,
        })
        .collect();
    assert_eq!(limits, [Some(25), None, Some(295), None]);
    let limit = |seconds| program_limit(Duration::from_secs(seconds));
    assert_eq!([0, 1, 12, 30, 120, u64::MAX].map(limit), [1, 1, 10, 25, 115, u64::MAX - 5]);
}

#[test]
fn what_the_user_adds_goes_to_the_kernel_that_it_is_for_in_each_of_its_boots() {
    let (source, target) = (kernel("old"), kernel("new"));
    let workload = find_workload("lifecycle.there-and-back").unwrap();
    let plan = planned(workload.profile, workload.name);
    let parts = vec![BootCell { workload, plan: &plan, program: None }];
    let own = Append { source: "mem=1G".into(), target: "mem=900M".into() };
    let profile = Profile { append: own, ..own_machine(workload.profile).unwrap().clone() };
    let boot = Boot { source: &source, target: &target, profile: &profile, parts };
    let append = Append { source: "mem=2G".into(), target: "nokaslr".into() };
    let lines = [0, 1, 2].map(|hop| {
        let identity = boot.identity(hop, 7, "", &append);
        identity.command_line(boot.mode(QemuVersion(99, 0, 0), Accel::Tcg, None))
    });
    for (line, (own, other)) in lines.iter().zip([("mem=2G", "nokaslr"), ("nokaslr", "mem=2G"), ("mem=2G", "nokaslr")])
    {
        let has = |option| line.split(' ').any(|word| word == option);
        assert!(has(own) && !has(other), "{line}");
    }
    // A kernel takes the last of several; the user's are behind those of the machine.
    let [source, target, _] = lines;
    assert!(source.contains(" mem=1G mem=2G ") && target.contains(" mem=900M nokaslr "), "{source}\n{target}");
}
