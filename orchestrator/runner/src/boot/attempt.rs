//! One attempt at a boot, and the records that it produces.

use super::driver::BootDriver;
use super::part::Checked;
use super::{Boot, BootCell, Host, alone};
use crate::inject::Fault;
use crate::journal::folder_of;
use crate::judge::{Evidence, Stop, judge, owed};
use luqual_model::{CellId, CellRecord, Event, Status};
use luqual_vm::MachineEnd;
use tokio::sync::mpsc;

/// Makes one attempt at a boot after `earlier` attempts. Returns the records of its cells, or `None` if the user
/// ended the run first.
pub(crate) async fn run_once(
    boot: &Boot<'_>,
    host: &Host<'_>,
    earlier: usize,
    events: &mpsc::UnboundedSender<Event>,
) -> Option<Vec<CellRecord>> {
    let id = boot.id();
    let folder = folder(&id, earlier);
    let mut driver = BootDriver::new(boot, host, host.folder.join(&folder), earlier, events);
    let mut stop = driver.run().await;
    let (findings, late) = driver.end(&stop).await;
    let is_same = host.deterministic && alone::is_of_its_own(&stop, late.as_ref());
    let digest = if is_same { alone::digest(driver.logs()).await } else { None };
    // A machine that ended after the last phase is not a complete boot.
    if let (Stop::Complete, Some(end)) = (&stop, late)
        && !(host.deterministic && end == MachineEnd::PoweredOff)
    {
        stop = Stop::Machine(end);
    }
    if stop == Stop::Interrupted || is_of_the_host(&stop) && host.is_interrupted() {
        return None;
    }
    driver.host_views().await;
    for finding in &findings {
        let _ = events.send(Event::ConsoleFinding { cell: id.clone(), finding: finding.clone() });
    }
    let (duration_us, entered) = (driver.guard().now_us(), driver.guard().decided_in());
    let (seed, blackout) = (driver.seed(), driver.blackout());
    let (side, taints, emulation) = (driver.side_at_end(), driver.taints(), driver.emulation());
    let provoked: Vec<&str> = boot.parts.iter().flat_map(|part| part.workload.provokes).copied().collect();
    let phases: Vec<_> = (0..boot.parts.len()).map(|number| driver.guard().phases_of(number)).collect();
    let record = |(number, ((part, checked), phases)): (usize, ((&BootCell<'_>, Checked), _))| {
        let evidence = Evidence {
            phase: entered,
            first_failed: checked.first_failed,
            stop: checked.stop(&stop),
            side,
            probes: checked.probes,
            owed: owed(part.workload.name),
            findings: findings.clone(),
            provoked: provoked.clone(),
            taints: taints.clone(),
            emulation,
        };
        let verdict = judge(&evidence);
        let others = boot.parts.iter().enumerate().filter(|(other, _)| *other != number);
        let mut record = CellRecord {
            id: part.plan.key.id(),
            plan: part.plan.clone(),
            outcome: verdict.outcome,
            status: Status::Unexpected,
            title: verdict.title,
            refusal: verdict.refusal,
            side: verdict.side,
            tainted: verdict.tainted,
            phase: verdict.phase,
            seed,
            digest: digest.clone(),
            injected: host.fault.as_ref().map(Fault::to_string),
            duration_us,
            phases,
            probes: evidence.probes,
            measures: checked.measures,
            frames: checked.frames,
            vm_reports: checked.vm_reports,
            blackout,
            findings: evidence.findings,
            folder: folder.clone(),
            shared_with: others.map(|(_, part)| part.workload.name.to_owned()).collect(),
            attempts: Vec::new(),
        };
        record.status = record.against_expectation();
        record
    };
    Some(boot.parts.iter().zip(driver.into_checked()).zip(phases).enumerate().map(record).collect())
}

/// Whether the host ended the boot, such as a signal that ends the run and reaches QEMU first.
fn is_of_the_host(stop: &Stop) -> bool {
    matches!(stop, Stop::Host(_) | Stop::Machine(MachineEnd::Qemu(_)))
}

/// The folder of an attempt's evidence, relative to the run's folder.
fn folder(boot: &CellId, earlier: usize) -> String {
    let folder = folder_of(boot);
    if earlier == 0 { folder } else { format!("{folder}/attempt-{}", earlier + 1) }
}
