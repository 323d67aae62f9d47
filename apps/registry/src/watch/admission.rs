//! How many large answers are on their way at a time.
//!
//! Everybody who comes back after a failure may need the whole list at once. What is on its way is held in buffers until it
//! is taken, so there is a budget of bytes; beyond it who asks is told when to come back. Who takes nothing does not keep
//! others out: when room is needed, those who began too long ago lose theirs. What is sent is held here and nowhere else, so it
//! is gone with the room, whether or not anybody ever goes on with it; whoever does is told.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::{Error, Instant, Result, Rng, SystemRng};
use bowline_registry_bowline::api::bowline::registry::v1::registry_error;

/// When who is refused may come back, and up to as much later by chance, so that not all do at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The budget.
#[derive(Debug)]
pub(crate) struct Admission {
    most: usize,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By number, so the oldest first.
    admitted: BTreeMap<u64, Held>,
    bytes: usize,
    next: u64,
}

/// What is sent, its bytes, and since when.
#[derive(Debug)]
struct Held {
    sent: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    since: Instant,
}

impl State {
    fn end(&mut self, number: u64) -> Option<Held> {
        let held = self.admitted.remove(&number)?;
        self.bytes -= held.bytes;
        Some(held)
    }
}

impl Admission {
    /// At most so many bytes at a time, or one answer; who takes longer than `patience` gives way.
    pub(crate) fn new(most: usize, patience: Duration) -> Self {
        Self { most, patience, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets something of so many bytes on its way.
    ///
    /// # Errors
    /// `TOO_MANY_SNAPSHOTS`, with the time after which to come back.
    pub(crate) fn admit<T: Send + Sync + 'static>(
        self: &Arc<Self>,
        sent: Arc<T>,
        bytes: usize,
        now: Instant,
    ) -> Result<Admitted<T>> {
        let mut state = self.lock();
        let is_full = |state: &State| !state.admitted.is_empty() && state.bytes + bytes > self.most;
        let mut gone = Vec::new();
        while is_full(&state)
            && let Some((number, held)) = state.admitted.first_key_value()
            && held.since + self.patience <= now
        {
            let number = *number;
            gone.extend(state.end(number));
        }
        if is_full(&state) {
            let message = format!(
                "lists of {} bytes are on their way; try again shortly or raise `limits.snapshot_bytes` of the \
                 registry",
                state.bytes
            );
            drop(state);
            let retry_after = RETRY_AFTER + SystemRng.jitter(RETRY_AFTER);
            return Err(registry_error::too_many_snapshots()
                .with_message(message)
                .with_retry_after(retry_after));
        }
        state.next += 1;
        state.bytes += bytes;
        let number = state.next;
        state.admitted.insert(number, Held { sent, bytes, since: now });
        drop(state);
        // Not under the lock: it may be large.
        drop(gone);
        Ok(Admitted { admission: Arc::clone(self), number, sent: PhantomData })
    }
}

/// Something on its way. Dropping it makes room.
pub(crate) struct Admitted<T> {
    admission: Arc<Admission>,
    number: u64,
    sent: PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static> Admitted<T> {
    /// What is sent, to be held no longer than it takes to send the next of it.
    ///
    /// # Errors
    /// `TOO_MANY_SNAPSHOTS` once its room was given to somebody else.
    pub(super) fn get(&self) -> Result<Arc<T>> {
        let held = self.admission.lock().admitted.get(&self.number).map(|held| Arc::clone(&held.sent));
        held.and_then(|held| held.downcast().ok()).ok_or_else(|| slow(self.admission.patience))
    }
}

fn slow(patience: Duration) -> Error {
    registry_error::too_many_snapshots()
        .with_message(format!(
            "the list was not taken within {patience:?} while others waited for theirs; watch again"
        ))
        .with_retry_after(RETRY_AFTER)
}

impl<T> Drop for Admitted<T> {
    fn drop(&mut self) {
        // What it held is dropped without the lock.
        let ended = self.admission.lock().end(self.number);
        drop(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_beyond_the_budget_wait_and_who_takes_nothing_gives_way() {
        let (admission, start) = (Arc::new(Admission::new(100, Duration::from_secs(10))), Instant::now());
        let admit = |bytes: usize, now: Instant| admission.admit(Arc::new(bytes), bytes, now);
        let large = admit(500, start).unwrap();
        let error = admit(1, start).err().unwrap();
        assert!(registry_error::is_too_many_snapshots(&error) && error.is_temporary(), "{error:?}");
        assert!(error.retry_after().is_some_and(|after| after >= RETRY_AFTER && after <= 2 * RETRY_AFTER));
        drop(large);
        let stuck = admit(60, start).unwrap();
        let quick = admit(40, start + Duration::from_secs(9)).unwrap();
        assert!(admit(1, start + Duration::from_secs(9)).is_err());
        let next = admit(50, start + Duration::from_secs(10)).unwrap();
        assert!(stuck.get().is_err() && *quick.get().unwrap() == 40 && *next.get().unwrap() == 50);
        drop((stuck, quick, next));
        assert_eq!(admission.lock().bytes, 0);
    }

    #[test]
    fn what_gave_way_is_gone_though_nobody_goes_on_with_it() {
        let (admission, start) = (Arc::new(Admission::new(100, Duration::from_secs(10))), Instant::now());
        let sent = Arc::new([0_u8; 90]);
        let stuck = admission.admit(Arc::clone(&sent), 90, start).unwrap();
        let next = admission.admit(Arc::new([1_u8; 90]), 90, start + Duration::from_secs(10)).unwrap();
        assert_eq!(Arc::strong_count(&sent), 1, "held by nobody else any more");
        drop((stuck, next));
    }
}
