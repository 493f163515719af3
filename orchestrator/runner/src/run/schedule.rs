//! Schedules the boots: as many at once as the budget allows, the longest first.

use futures_util::stream::{self, FuturesUnordered, StreamExt};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

/// The resources of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Memory of its machine, in MiB.
    pub memory_mib: u64,
    /// Its last duration; zero if it is unknown.
    pub usual: Duration,
}

/// The resources of the host for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The number of machines at once.
    pub jobs: u64,
    /// The memory of all machines, in MiB.
    pub memory_mib: u64,
}

/// The next arrival of boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Boots that can be started.
    Boots(Vec<Load>),
    /// All boots have arrived.
    All,
    /// The user ended the run before the rest arrived.
    Interrupted,
    /// The rest will not arrive.
    Failed,
}

/// How the boots of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheduled {
    /// All have arrived and run to their end.
    Whole,
    /// Some were cut off or not started, because the user ended the run.
    Interrupted,
    /// Some did not arrive.
    Failed,
}

impl Scheduled {
    /// The first reason why it is not whole.
    fn or(self, other: Self) -> Self {
        if self == Self::Whole { other } else { self }
    }
}

/// Starts each arriving boot by its number, as many at once as fit into `slots`, until one reports that the user
/// ended it. Boots arrive while others run. A boot that can never fit has to be rejected before.
pub(super) async fn schedule<F: Future<Output = bool>>(
    arrivals: impl AsyncFnMut() -> Arrival,
    slots: Slots,
    mut start: impl FnMut(usize) -> F,
) -> Scheduled {
    let arriving = stream::unfold(arrivals, |mut arrivals| async move { Some((arrivals().await, arrivals)) });
    let mut arriving = pin!(arriving);
    let (mut loads, mut waiting) = (Vec::new(), VecDeque::new());
    let mut running = FuturesUnordered::new();
    let (mut count, mut memory) = (0, 0);
    let (mut is_open, mut end) = (true, Scheduled::Whole);
    loop {
        let fits = |index: &usize| {
            let load: &Load = &loads[*index];
            memory + load.memory_mib <= slots.memory_mib
        };
        let next = if count < slots.jobs { waiting.iter().position(fits) } else { None };
        if let Some(index) = next.and_then(|place| waiting.remove(place)) {
            (count, memory) = (count + 1, memory + loads[index].memory_mib);
            let run = start(index);
            running.push(async move { (index, run.await) });
            continue;
        }
        tokio::select! {
            biased;
            Some((index, has_ended)) = running.next(), if !running.is_empty() => {
                (count, memory) = (count - 1, memory - loads[index].memory_mib);
                if !has_ended {
                    waiting.clear();
                    is_open = false;
                    end = end.or(Scheduled::Interrupted);
                }
            }
            Some(arrival) = arriving.next(), if is_open => match arrival {
                Arrival::Boots(more) => {
                    waiting.extend(loads.len()..loads.len() + more.len());
                    loads.extend(more);
                    // The sort is stable: boots of unknown duration stay in plan order.
                    waiting.make_contiguous().sort_by_key(|index| Reverse(loads[*index].usual));
                }
                Arrival::All => is_open = false,
                Arrival::Interrupted => (is_open, end) = (false, end.or(Scheduled::Interrupted)),
                Arrival::Failed => (is_open, end) = (false, end.or(Scheduled::Failed)),
            },
            else => return end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::sync::Notify;

    const SLOTS: Slots = Slots { jobs: 2, memory_mib: 3000 };

    fn load(memory_mib: u64, seconds: u64) -> Load {
        Load { memory_mib, usual: Duration::from_secs(seconds) }
    }

    /// Runs them on a clock that only counts, and returns the order of starts, and the most memory and cells at once.
    async fn run(loads: &[Load], slots: Slots, stop_at: Option<usize>) -> (Vec<usize>, u64, u64) {
        let (order, now) = (RefCell::new(Vec::new()), RefCell::new((0, 0)));
        let most = RefCell::new((0, 0));
        let mut arrivals = VecDeque::from([Arrival::Boots(loads.to_vec()), Arrival::All]);
        let end = schedule(
            async || arrivals.pop_front().unwrap(),
            slots,
            |index| {
                order.borrow_mut().push(index);
                {
                    let mut now = now.borrow_mut();
                    *now = (now.0 + loads[index].memory_mib, now.1 + 1);
                    let mut most = most.borrow_mut();
                    *most = (most.0.max(now.0), most.1.max(now.1));
                }
                let now = &now;
                async move {
                    tokio::task::yield_now().await;
                    let mut now = now.borrow_mut();
                    *now = (now.0 - loads[index].memory_mib, now.1 - 1);
                    stop_at != Some(index)
                }
            },
        )
        .await;
        assert_eq!(end, if stop_at.is_some() { Scheduled::Interrupted } else { Scheduled::Whole });
        let (memory, count) = most.into_inner();
        (order.into_inner(), memory, count)
    }

    #[tokio::test]
    async fn the_longest_is_first_and_the_unknown_keep_their_order() {
        let loads = [load(1000, 0), load(1000, 5), load(1000, 9), load(1000, 0)];
        assert_eq!(run(&loads, SLOTS, None).await, (vec![2, 1, 0, 3], 2000, 2));
    }

    #[tokio::test]
    async fn what_does_not_fit_now_waits_and_lets_others_pass() {
        let loads = [load(2000, 9), load(2000, 8), load(1000, 1)];
        assert_eq!(run(&loads, SLOTS, None).await, (vec![0, 2, 1], 3000, 2));
    }

    #[tokio::test]
    async fn an_end_by_the_user_starts_nothing_more() {
        let loads = [load(1000, 0); 10];
        let (order, ..) = run(&loads, SLOTS, Some(0)).await;
        assert!(order.len() < 10, "{order:?}");
    }

    /// Boots arrive while others run; the last arrival is as said.
    async fn late(last: Arrival) -> (Vec<usize>, Scheduled) {
        let (order, release) = (RefCell::new(Vec::new()), Notify::new());
        let mut arrivals = VecDeque::from([vec![load(1000, 1)], vec![load(1000, 2), load(1000, 3)]]);
        let arrive = async || match arrivals.pop_front() {
            Some(loads) => Arrival::Boots(loads),
            None => {
                // The boots of the first arrivals wait for this one: it comes while they run.
                release.notify_waiters();
                last.clone()
            }
        };
        let end = schedule(arrive, Slots { jobs: 3, ..SLOTS }, |index| {
            order.borrow_mut().push(index);
            let released = release.notified();
            async move {
                released.await;
                true
            }
        });
        let end = end.await;
        (order.into_inner(), end)
    }

    #[tokio::test]
    async fn boots_that_arrive_late_start_beside_those_that_run() {
        assert_eq!(late(Arrival::All).await, (vec![0, 2, 1], Scheduled::Whole));
        assert_eq!(late(Arrival::Failed).await, (vec![0, 2, 1], Scheduled::Failed));
        assert_eq!(late(Arrival::Interrupted).await, (vec![0, 2, 1], Scheduled::Interrupted));
    }

    #[tokio::test]
    async fn nothing_more_arrives_once_the_user_ended_it() {
        let mut asked = 0;
        let arrive = async || {
            asked += 1;
            if asked > 1 { std::future::pending().await } else { Arrival::Boots(vec![load(1000, 1)]) }
        };
        // It ends while the next arrival is waited for.
        let ended = |_| async {
            tokio::task::yield_now().await;
            false
        };
        assert_eq!(schedule(arrive, SLOTS, ended).await, Scheduled::Interrupted);
        assert_eq!(asked, 2);
    }
}
