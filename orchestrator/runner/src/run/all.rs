//! A whole run: what is scheduled tells its events, and one dispatcher writes them down.

use super::schedule::{Arrival, Slots, schedule};
use crate::journal::Dispatcher;
use luqual_model::Event;
use std::cell::Cell;
use std::io;
use tokio::sync::{mpsc, watch};

/// Starts the boots that `arrivals` brings, by the numbers in which they arrive from 0, as [`schedule`] says, and takes in all that
/// they tell until the last of them has ended. Nothing more is started once the journal cannot be written. A run of which a part
/// did not arrive has not finished: it can be resumed.
pub async fn run_all<F: Future<Output = bool>>(
    mut dispatcher: Dispatcher<'_>,
    slots: Slots,
    interrupt: &watch::Receiver<bool>,
    mut arrivals: impl AsyncFnMut(&mpsc::UnboundedSender<Event>) -> Arrival,
    mut start: impl FnMut(usize, mpsc::UnboundedSender<Event>) -> F,
) -> io::Result<()> {
    let (events, mut taken) = mpsc::unbounded_channel();
    let (is_written, arrived, ended) = (Cell::new(true), Cell::new(0), Cell::new(0));
    let is_open = Cell::new(true);
    let run = async {
        // It is gone with the last boot's, so that the dispatcher's loop ends.
        let events = events;
        let arrive = async || {
            let arrival = arrivals(&events).await;
            match &arrival {
                Arrival::Boots(loads) => arrived.set(arrived.get() + loads.len()),
                Arrival::All => is_open.set(false),
                Arrival::Interrupted | Arrival::Failed => {}
            }
            arrival
        };
        let start = |index| {
            let (run, is_written, ended) = (start(index, events.clone()), &is_written, &ended);
            async move {
                let has_ended = run.await;
                ended.set(ended.get() + usize::from(has_ended));
                has_ended && is_written.get()
            }
        };
        if schedule(arrive, slots, start).await {
            // A run whose cells had all ended was not cut short.
            let interrupted = *interrupt.borrow() && (is_open.get() || ended.get() < arrived.get());
            let _ = events.send(Event::RunFinished { interrupted });
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
