//! Runs a boot as often as requested.

use super::attempts::worst;
use super::attribution::{attributed, unexpected_end};
use crate::boot::{Boot, Host, run_once};
use crate::seed::Seed;
use luqual_model::{CellRecord, Event};
use tokio::sync::mpsc;

/// Runs the cells of a boot and sends their records. Returns false if the user ended the run first.
pub async fn run_boot(boot: &Boot<'_>, host: &Host<'_>, events: &mpsc::UnboundedSender<Event>) -> bool {
    let records = match boot.parts.as_slice() {
        [_] => run_alone(boot, host, events).await.map(|record| vec![record]),
        _ => run_shared(boot, host, events).await,
    };
    let Some(records) = records else { return false };
    for record in records {
        // A closed channel means that the listener has ended; the cells have still ended in order.
        let _ = events.send(Event::CellFinished { record: Box::new(record) });
    }
    true
}

async fn run_alone(boot: &Boot<'_>, host: &Host<'_>, events: &mpsc::UnboundedSender<Event>) -> Option<CellRecord> {
    if host.is_interrupted() {
        return None;
    }
    let id = boot.id();
    let key = boot.parts.first()?.plan.key.clone();
    let _ = events.send(Event::CellStarted { cell: id.clone(), key });
    let mut done = Vec::new();
    while host.attempts.one_more(&done) {
        done.extend(run_once(boot, host, done.len(), events).await?);
    }
    worst(done, host.attempts.repeat as usize)
}

/// Runs all cells in one boot, as often as requested. If a round does not end as expected, each cell runs again
/// alone.
async fn run_shared(
    boot: &Boot<'_>,
    host: &Host<'_>,
    events: &mpsc::UnboundedSender<Event>,
) -> Option<Vec<CellRecord>> {
    if host.is_interrupted() {
        return None;
    }
    let id = boot.id();
    let cells = boot.parts.iter().map(|part| part.plan.key.id()).collect();
    let _ = events.send(Event::BootStarted { boot: id.clone(), cells });
    let mut of_each: Vec<Vec<CellRecord>> = boot.parts.iter().map(|_| Vec::new()).collect();
    for round in 0..host.attempts.repeat as usize {
        let records = run_once(boot, host, round, events).await?;
        // A reproduced boot has no attribution.
        let is_looked_into = matches!(host.seed, Seed::OfRun(_));
        if let Some(why) = unexpected_end(&records).filter(|_| is_looked_into) {
            let _ = events.send(Event::BootEnded { boot: id, why: Some(why) });
            let mut alone = Vec::new();
            for part in &boot.parts {
                alone.push(run_alone(&Boot { parts: vec![*part], ..boot.clone() }, host, events).await?);
            }
            // The earlier rounds ended as expected, and count.
            of_each.iter_mut().zip(attributed(records, alone)).for_each(|(of_one, record)| of_one.push(record));
            return Some(all_of(of_each));
        }
        of_each.iter_mut().zip(records).for_each(|(of_one, record)| of_one.push(record));
    }
    let _ = events.send(Event::BootEnded { boot: id, why: None });
    Some(all_of(of_each))
}

/// Combines all rounds of each cell; none of them is a retry.
fn all_of(rounds: Vec<Vec<CellRecord>>) -> Vec<CellRecord> {
    let all = |of_one: Vec<CellRecord>| {
        let count = of_one.len();
        worst(of_one, count)
    };
    rounds.into_iter().filter_map(all).collect()
}

#[cfg(test)]
mod tests;
