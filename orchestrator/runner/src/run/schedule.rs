//! Which boots run when: as many at once as the budget allows, those that take longest first.

use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::time::Duration;

/// What a boot takes of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Memory of its machine, in MiB.
    pub memory_mib: u64,
    /// How long it took when it was last run; zero if nobody knows.
    pub usual: Duration,
}

/// How much of the host there is for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Machines at once.
    pub jobs: u64,
    /// Their memory together, in MiB.
    pub memory_mib: u64,
}

/// Starts each of `loads` by its index, in an order and number that fit into `slots`, until one says that it was ended
/// by the user. What can never fit has to be found before.
pub(super) async fn schedule<F: Future<Output = bool>>(
    loads: &[Load],
    slots: Slots,
    mut start: impl FnMut(usize) -> F,
) {
    let mut waiting: Vec<usize> = (0..loads.len()).collect();
    // Stable: what is not known goes on in plan order.
    waiting.sort_by_key(|index| std::cmp::Reverse(loads[*index].usual));
    let mut waiting = VecDeque::from(waiting);
    let mut running = FuturesUnordered::new();
    let (mut count, mut memory) = (0, 0);
    loop {
        let fits = |index: &usize| memory + loads[*index].memory_mib <= slots.memory_mib;
        let next = if count < slots.jobs { waiting.iter().position(fits) } else { None };
        if let Some(index) = next.and_then(|place| waiting.remove(place)) {
            (count, memory) = (count + 1, memory + loads[index].memory_mib);
            let run = start(index);
            running.push(async move { (index, run.await) });
            continue;
        }
        match running.next().await {
            Some((index, go_on)) => {
                (count, memory) = (count - 1, memory - loads[index].memory_mib);
                if !go_on {
                    waiting.clear();
                }
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const SLOTS: Slots = Slots { jobs: 2, memory_mib: 3000 };

    fn load(memory_mib: u64, seconds: u64) -> Load {
        Load { memory_mib, usual: Duration::from_secs(seconds) }
    }

    /// Runs them on a clock that only counts, and returns the order of starts, and the most memory and cells at once.
    async fn run(loads: &[Load], slots: Slots, stop_at: Option<usize>) -> (Vec<usize>, u64, u64) {
        let (order, now) = (RefCell::new(Vec::new()), RefCell::new((0, 0)));
        let most = RefCell::new((0, 0));
        schedule(loads, slots, |index| {
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
        })
        .await;
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
}
