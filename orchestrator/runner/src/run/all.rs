//! A whole run: the scheduled boots send events, and one dispatcher writes them.

use super::schedule::{Arrival, Scheduled, Slots, schedule};
use crate::journal::Dispatcher;
use luqual_model::Event;
use std::cell::Cell;
use std::io;
use tokio::sync::mpsc;

/// Starts the boots that `arrivals` brings, numbered from 0 in the order of arrival, as [`schedule`] says, and
/// records their events until the last one has ended. If the journal cannot be written, no further boot starts. A run
/// whose boots did not all arrive is not finished; it can be resumed.
pub async fn run_all<F: Future<Output = bool>>(
    mut dispatcher: Dispatcher<'_>,
    slots: Slots,
    mut arrivals: impl AsyncFnMut(&mpsc::UnboundedSender<Event>) -> Arrival,
    mut start: impl FnMut(usize, mpsc::UnboundedSender<Event>) -> F,
) -> io::Result<()> {
    let (events, mut taken) = mpsc::unbounded_channel();
    let is_written = Cell::new(true);
    let run = async {
        // Dropped with the last boot's sender, so that the dispatcher's loop ends.
        let events = events;
        let start = |index| {
            let (run, is_written) = (start(index, events.clone()), &is_written);
            async move { run.await && is_written.get() }
        };
        let end = schedule(async || arrivals(&events).await, slots, start).await;
        // A run whose cells have all ended is not interrupted, and one whose kernels did not all come is not finished.
        if end != Scheduled::Failed {
            let _ = events.send(Event::RunFinished { interrupted: end == Scheduled::Interrupted });
        }
    };
    let dispatch = async {
        while let Some(event) = taken.recv().await {
            is_written.set(dispatcher.take(event));
        }
        dispatcher.finish()
    };
    let ((), written) = tokio::join!(run, dispatch);
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::schedule::Load;
    use luqual_model::{HostInfo, RunInfo, Stamped};
    use std::time::Duration;

    const LOADS: [Load; 3] = [Load { memory_mib: 1, usual: Duration::ZERO }; 3];
    const ONE_AT_A_TIME: Slots = Slots { jobs: 1, memory_mib: 1 };

    fn all_at_once() -> impl AsyncFnMut(&mpsc::UnboundedSender<Event>) -> Arrival {
        let mut boots = Some(LOADS.to_vec());
        async move |_| boots.take().map_or(Arrival::All, Arrival::Boots)
    }

    #[tokio::test]
    async fn nothing_more_is_started_once_the_journal_cannot_be_written() {
        let (mut seen, started) = (0, Cell::new(0));
        let mut observer = |_: &Stamped| seen += 1;
        let dispatcher = Dispatcher::on_a_full_disk(&mut observer);
        let start = |_, events: mpsc::UnboundedSender<Event>| {
            started.set(started.get() + 1);
            async move {
                let _ = events.send(Event::RunResumed { left: 1, again: Vec::new() });
                tokio::task::yield_now().await;
                true
            }
        };
        let ran = run_all(dispatcher, ONE_AT_A_TIME, all_at_once(), start).await;
        assert_eq!(ran.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((started.get(), seen), (1, 0));
    }

    /// Runs three, in each of which the user may end the run, and says how the journal calls that.
    async fn interrupted_in(number: Option<usize>) -> (usize, Event) {
        let folder = tempfile::tempdir().unwrap();
        let (started, mut last) = (Cell::new(0), None);
        let mut observer = |stamped: &Stamped| last = Some(stamped.event.clone());
        let run = RunInfo::new("id".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default());
        let dispatcher = Dispatcher::create(folder.path(), &run, &mut observer).unwrap();
        let is_ended = Cell::new(false);
        let start = |index, _| {
            started.set(started.get() + 1);
            if Some(index) == number {
                is_ended.set(true);
            }
            // One that has ended all the same; the next ones are not made any more.
            let is_made = !is_ended.get() || Some(index) == number;
            async move { is_made }
        };
        run_all(dispatcher, ONE_AT_A_TIME, all_at_once(), start).await.unwrap();
        (started.get(), last.unwrap())
    }

    #[tokio::test]
    async fn a_run_is_interrupted_if_the_user_ended_it_before_all_of_it_was_done() {
        assert_eq!(interrupted_in(None).await, (3, Event::RunFinished { interrupted: false }));
        assert_eq!(interrupted_in(Some(0)).await, (2, Event::RunFinished { interrupted: true }));
        assert_eq!(interrupted_in(Some(2)).await, (3, Event::RunFinished { interrupted: false }));
    }
}
