//! A whole run: what is scheduled tells its events, and one dispatcher writes them down.

use super::schedule::{Load, Slots, schedule};
use crate::journal::Dispatcher;
use luqual_model::Event;
use std::cell::Cell;
use std::io;
use tokio::sync::{mpsc, watch};

/// Starts each of `loads` as [`schedule`] says, and takes in all that they tell until the last of them has ended. Nothing
/// more is started once the journal cannot be written.
pub async fn run_all<F: Future<Output = bool>>(
    mut dispatcher: Dispatcher<'_>,
    loads: &[Load],
    slots: Slots,
    interrupt: &watch::Receiver<bool>,
    mut start: impl FnMut(usize, mpsc::UnboundedSender<Event>) -> F,
) -> io::Result<()> {
    let (events, mut taken) = mpsc::unbounded_channel();
    let is_written = Cell::new(true);
    let run = async {
        let start = |index| {
            let (run, is_written) = (start(index, events.clone()), &is_written);
            async move { run.await && is_written.get() }
        };
        schedule(loads, slots, start).await;
        let interrupted = *interrupt.borrow();
        // The dispatcher listens until it has taken this one.
        let _ = events.send(Event::RunFinished { interrupted });
    };
    let dispatch = async {
        while let Some(event) = taken.recv().await {
            let last = matches!(event, Event::RunFinished { .. });
            is_written.set(dispatcher.take(event));
            if last {
                break;
            }
        }
        dispatcher.finish()
    };
    let ((), written) = tokio::join!(run, dispatch);
    written
}
