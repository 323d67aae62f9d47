//! A bounded number at a time, and a short queue for the others.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use bowline_core::Instant;

use crate::sync::{Arc, Mutex, MutexGuard, oneshot};

/// How many of an operation run at a time, and how the others wait.
///
/// While the queue empties now and then it is first in, first out, and who waits longer than `interval` gives up. Once
/// it has not been empty for that long, there is too much to do: then the newest is served first, whose caller is
/// most likely still there, and who has waited longer than `target` gives up (Maurer, *Fail at Scale*, ACM Queue
/// 13(8), 2015: controlled delay and adaptive LIFO).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BulkheadOptions {
    /// How many at a time.
    pub concurrency: u32,
    /// How many may wait: as many as run, unless said otherwise.
    pub queue: usize,
    /// How long one may wait while there is too much to do: 5 ms.
    pub target: Duration,
    /// How long one may wait otherwise: 100 ms.
    pub interval: Duration,
}

impl BulkheadOptions {
    /// So many at a time, and as many that wait.
    pub fn new(concurrency: u32) -> Self {
        Self {
            concurrency,
            queue: concurrency as usize,
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
        }
    }
}

/// Keeps one operation from taking what the others need.
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: BulkheadOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    running: u32,
    /// Oldest first. Some may have given up; their places go on to the next.
    waiting: VecDeque<Waiting>,
    last_empty: Instant,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    grant: oneshot::Sender<Slot>,
}

/// The right to run. It goes on to the next one when this is dropped, whatever happened.
#[derive(Debug)]
#[must_use = "dropped at once, the place is free again"]
pub struct Slot {
    /// `None` once it was taken back.
    bulkhead: Option<Arc<Inner>>,
}

/// What became of a request that came to a bulkhead.
#[derive(Debug)]
pub enum Entry {
    /// It may run.
    Runs(Slot),
    /// It waits.
    Waits(Wait),
    /// As many wait already as may.
    Full,
}

/// A request's place in the queue. Dropped, it gives it up.
#[derive(Debug)]
pub struct Wait {
    granted: oneshot::Receiver<Slot>,
    patience: Duration,
}

/// There is no place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Bulkhead {
    /// An empty one. A concurrency of 0 is 1.
    pub fn new(options: BulkheadOptions, now: Instant) -> Self {
        let options = BulkheadOptions { concurrency: options.concurrency.max(1), ..options };
        let state = State { running: 0, waiting: VecDeque::new(), last_empty: now };
        Self(Arc::new(Inner { options, state: Mutex::new(state) }))
    }

    /// Asks for a place.
    pub fn enter(&self, now: Instant) -> Entry {
        let mut state = self.0.state();
        if state.running < self.0.options.concurrency {
            state.running += 1;
            state.last_empty = now;
            return Entry::Runs(Slot { bulkhead: Some(Arc::clone(&self.0)) });
        }
        if self.0.has_long_queue(&mut state, now) {
            return Entry::Full;
        }
        let patience = self.0.patience(&state, now);
        let (grant, granted) = oneshot::channel();
        state.waiting.push_back(Waiting { since: now, grant });
        Entry::Waits(Wait { granted, patience })
    }

    /// Whether who came now would be turned away. This takes nothing.
    pub fn is_full(&self, now: Instant) -> bool {
        let mut state = self.0.state();
        state.running >= self.0.options.concurrency && self.0.has_long_queue(&mut state, now)
    }

    /// How many run.
    pub fn running(&self) -> u32 {
        self.0.state().running
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.state().waiting.iter().filter(|waiting| !waiting.grant.is_closed()).count()
    }
}

impl Wait {
    /// Waits for the right to run.
    ///
    /// # Errors
    /// [`Full`] if it takes too long.
    pub async fn granted(self) -> Result<Slot, Full> {
        match tokio::time::timeout(self.patience, self.granted).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    /// The right itself, where no time passes.
    #[cfg(all(test, loom))]
    pub(crate) fn into_grant(self) -> oneshot::Receiver<Slot> {
        self.granted
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether as many wait as may.
    fn has_long_queue(&self, state: &mut State, now: Instant) -> bool {
        // Those who have given up hold no places in the queue, and make no standing one.
        if state.waiting.front().is_some_and(|oldest| oldest.grant.is_closed())
            || state.waiting.len() >= self.options.queue
        {
            state.waiting.retain(|waiting| !waiting.grant.is_closed());
        }
        if state.waiting.is_empty() {
            state.last_empty = now;
        }
        state.waiting.len() >= self.options.queue
    }

    fn is_standing(&self, state: &State, now: Instant) -> bool {
        now.saturating_duration_since(state.last_empty) > self.options.interval
    }

    fn patience(&self, state: &State, now: Instant) -> Duration {
        if self.is_standing(state, now) { self.options.target } else { self.options.interval }
    }

    /// The next one to run, if anybody waits; otherwise one less runs.
    fn next(&self, now: Instant) -> Option<Waiting> {
        let mut state = self.state();
        let patience = self.patience(&state, now);
        let standing = self.is_standing(&state, now);
        while let Some(waiting) = if standing { state.waiting.pop_back() } else { state.waiting.pop_front() }
        {
            if waiting.grant.is_closed() {
                continue;
            }
            // Who has waited for too long is told so by dropping its sender.
            if now.saturating_duration_since(waiting.since) <= patience {
                if state.waiting.is_empty() {
                    state.last_empty = now;
                }
                return Some(waiting);
            }
        }
        state.running -= 1;
        state.last_empty = now;
        None
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(mut inner) = self.bulkhead.take() else { return };
        // One that gave up in this very moment gives the slot back, and it goes on to the next.
        while let Some(next) = inner.next(Instant::now()) {
            match next.grant.send(Slot { bulkhead: Some(inner) }) {
                Ok(()) => return,
                Err(mut back) => match back.bulkhead.take() {
                    Some(again) => inner = again,
                    None => return,
                },
            }
        }
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bulkhead(concurrency: u32) -> Bulkhead {
        Bulkhead::new(BulkheadOptions::new(concurrency), Instant::now())
    }

    fn runs(bulkhead: &Bulkhead) -> Slot {
        match bulkhead.enter(Instant::now()) {
            Entry::Runs(slot) => slot,
            other => panic!("{other:?}"),
        }
    }

    fn waits(bulkhead: &Bulkhead) -> Wait {
        match bulkhead.enter(Instant::now()) {
            Entry::Waits(wait) => wait,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_come_is_the_first_to_run_while_there_is_no_hurry() {
        let bulkhead = bulkhead(2);
        let (one, _two) = (runs(&bulkhead), runs(&bulkhead));
        let (third, fourth) = (waits(&bulkhead), waits(&bulkhead));
        assert!(bulkhead.is_full(Instant::now()));
        assert!(matches!(bulkhead.enter(Instant::now()), Entry::Full));
        drop(one);
        let third = third.granted().await.unwrap();
        assert_eq!((bulkhead.running(), bulkhead.waiting()), (2, 1));
        // Nobody frees a place: it gives up after 100 ms.
        let began = Instant::now();
        assert_eq!(fourth.granted().await.unwrap_err(), Full);
        assert_eq!(began.elapsed(), Duration::from_millis(100));
        drop(third);
        assert_eq!((bulkhead.running(), bulkhead.waiting()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_standing_queue_the_newest_runs_and_the_others_give_up_soon() {
        let bulkhead = bulkhead(3);
        let slots = [runs(&bulkhead), runs(&bulkhead), runs(&bulkhead)];
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(waits(&bulkhead));
            tokio::time::advance(Duration::from_millis(40)).await;
        }
        drop(kept.remove(0));
        // The queue has not been empty for 120 ms: who comes now may wait for 5 ms.
        let newest = waits(&bulkhead);
        assert_eq!(newest.patience, Duration::from_millis(5));
        let [slot, ..] = slots;
        drop(slot);
        assert!(newest.granted().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_nobody_takes_goes_on() {
        let bulkhead = bulkhead(2);
        let (one, two) = (runs(&bulkhead), runs(&bulkhead));
        let (gone, next) = (waits(&bulkhead), waits(&bulkhead));
        drop(gone);
        drop(one);
        let next = next.granted().await.unwrap();
        // Granted and never looked at: the place comes back.
        let granted = waits(&bulkhead);
        drop(two);
        assert_eq!(bulkhead.running(), 2);
        drop(granted);
        assert_eq!(bulkhead.running(), 1);
        drop(next);
        assert_eq!((bulkhead.running(), bulkhead.waiting()), (0, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter,
        /// One that runs ends, or panics.
        End(usize),
        /// One that waits is cancelled, or looks whether it may run.
        Cancel(usize),
        Look(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Enter),
            2 => (0..8_usize).prop_map(Step::End),
            1 => (0..8_usize).prop_map(Step::Cancel),
            2 => (0..8_usize).prop_map(Step::Look),
            1 => (0..150_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn no_place_is_lost_or_made(steps in proptest::collection::vec(step(), 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let bulkhead = bulkhead(3);
                let (mut running, mut waiting) = (Vec::new(), Vec::new());
                for step in steps {
                    match step {
                        Step::Enter => match bulkhead.enter(Instant::now()) {
                            Entry::Runs(slot) => running.push(slot),
                            Entry::Waits(wait) => waiting.push(Box::pin(wait.granted())),
                            Entry::Full => {}
                        },
                        Step::End(i) if i < running.len() => drop(running.swap_remove(i)),
                        Step::Cancel(i) if i < waiting.len() => drop(waiting.swap_remove(i)),
                        Step::Look(i) if i < waiting.len() => {
                            let task = &mut std::task::Context::from_waker(std::task::Waker::noop());
                            if let std::task::Poll::Ready(granted) = waiting[i].as_mut().poll(task) {
                                drop(waiting.swap_remove(i));
                                running.extend(granted.ok());
                            }
                        }
                        Step::Pass(ms) => tokio::time::advance(Duration::from_millis(ms)).await,
                        _ => {}
                    }
                    assert!(bulkhead.running() <= 3 && running.len() <= 3);
                    assert!(bulkhead.running() as usize >= running.len());
                    assert!(bulkhead.waiting() <= 3);
                }
                drop(waiting);
                drop(running);
                assert_eq!((bulkhead.running(), bulkhead.waiting()), (0, 0));
            });
        }
    }
}
