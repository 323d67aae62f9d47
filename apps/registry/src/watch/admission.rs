//! How many whole lists are on their way at a time.
//!
//! Everybody who comes back after a failure may need the whole list at once. What is on its way is held in buffers until it
//! is taken, so there is a budget of bytes; beyond it who asks is told when to come back. Who takes nothing does not keep
//! others out: when room is needed, those who began too long ago lose theirs, and their streams end when they go on.

use std::collections::BTreeMap;
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
    /// By number, so the oldest first: bytes, and since when.
    admitted: BTreeMap<u64, (usize, Instant)>,
    bytes: usize,
    next: u64,
}

impl State {
    fn end(&mut self, number: u64) {
        if let Some((bytes, _)) = self.admitted.remove(&number) {
            self.bytes -= bytes;
        }
    }
}

impl Admission {
    /// At most so many bytes at a time, or one list; who takes longer than `patience` gives way.
    pub(crate) fn new(most: usize, patience: Duration) -> Self {
        Self { most, patience, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets so many bytes on their way.
    ///
    /// # Errors
    /// `TOO_MANY_SNAPSHOTS`, with the time after which to come back.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize, now: Instant) -> Result<Admitted> {
        let mut state = self.lock();
        let is_full = |state: &State| !state.admitted.is_empty() && state.bytes + bytes > self.most;
        while is_full(&state)
            && let Some((number, (_, since))) = state.admitted.first_key_value()
            && *since + self.patience <= now
        {
            let number = *number;
            state.end(number);
        }
        if is_full(&state) {
            let message = format!(
                "lists of {} bytes are on their way to watchers; try again shortly or raise \
                 `limits.snapshot_bytes` of the registry",
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
        state.admitted.insert(number, (bytes, now));
        drop(state);
        Ok(Admitted { admission: Arc::clone(self), number })
    }
}

/// A list on its way. Dropping it makes room.
pub(super) struct Admitted {
    admission: Arc<Admission>,
    number: u64,
}

impl Admitted {
    /// Fails once its room was given to somebody else.
    ///
    /// # Errors
    /// `TOO_MANY_SNAPSHOTS`.
    pub(super) fn check(&self) -> Result<()> {
        if self.admission.lock().admitted.contains_key(&self.number) {
            return Ok(());
        }
        Err(slow(self.admission.patience))
    }
}

fn slow(patience: Duration) -> Error {
    registry_error::too_many_snapshots()
        .with_message(format!(
            "the list was not taken within {patience:?} while others waited for theirs; watch again"
        ))
        .with_retry_after(RETRY_AFTER)
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.lock().end(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_beyond_the_budget_wait_and_who_takes_nothing_gives_way() {
        let (admission, start) = (Arc::new(Admission::new(100, Duration::from_secs(10))), Instant::now());
        let large = admission.admit(500, start).unwrap();
        let error = admission.admit(1, start).err().unwrap();
        assert!(registry_error::is_too_many_snapshots(&error) && error.is_temporary(), "{error:?}");
        assert!(error.retry_after().is_some_and(|after| after >= RETRY_AFTER && after <= 2 * RETRY_AFTER));
        drop(large);
        let stuck = admission.admit(60, start).unwrap();
        let quick = admission.admit(40, start + Duration::from_secs(9)).unwrap();
        assert!(admission.admit(1, start + Duration::from_secs(9)).is_err());
        let next = admission.admit(50, start + Duration::from_secs(10)).unwrap();
        assert!(stuck.check().is_err() && quick.check().is_ok() && next.check().is_ok());
        drop((stuck, quick, next));
        assert_eq!(admission.lock().bytes, 0);
    }
}
