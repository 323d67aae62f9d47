//! One bounded step.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;

use bowline_core::task::{contain, panicked};
use bowline_core::{Context, Error, Instant, Result};

use super::interrupt::{Interrupts, Stop};
use crate::BoxFuture;
use crate::handle::Shared;

/// What is done, for errors, and how long it may take.
pub(super) struct Step {
    /// Such as "opening resource `db`".
    pub(super) what: String,
    pub(super) limit: Duration,
    /// The setting to raise when that is too short.
    pub(super) setting: &'static str,
    /// How long it gets to return once its context is done.
    pub(super) grace: Duration,
}

impl Step {
    /// Says what was being done, and which bound it ran into if it did.
    fn explain(&self, error: Error) -> Error {
        if error.is_timeout() {
            error.context(format!("{} within {:?} (lifecycle.{})", self.what, self.limit, self.setting))
        } else {
            error.context(self.what.clone())
        }
    }

    fn too_late(&self) -> Error {
        Error::deadline_exceeded(format!(
            "not done, and its context was ignored; see what it waits for, or raise lifecycle.{}",
            self.setting
        ))
    }

    /// Runs a step of the start until it is done, too late, or interrupted. An interrupted step is told by its context and
    /// may still succeed; then its result is there to be undone, beside the reason to stop.
    pub(super) async fn start<'a, T>(
        self,
        interrupts: &mut Interrupts,
        shared: &Shared,
        work: impl FnOnce(Context) -> BoxFuture<'a, Result<T>>,
    ) -> (Option<T>, Option<Stop>) {
        if let Some(stop) = interrupts.now() {
            return (None, Some(stop));
        }
        let (cx, canceller) = Context::background().with_timeout(self.limit).with_cancel();
        let mut work = pin!(guarded(|| work(cx)));
        let (result, stop) = tokio::select! {
            biased;
            result = &mut work => (result, None),
            stop = interrupts.next() => {
                canceller.cancel();
                let result = tokio::select! {
                    biased;
                    result = work => result,
                    () = shared.aborted() => return (None, Some(stop)),
                    () = tokio::time::sleep(self.grace) => return (None, Some(stop)),
                };
                (result, Some(stop))
            }
            () = tokio::time::sleep(self.limit + self.grace) => (Err(self.too_late()), None),
        };
        match (result, stop) {
            (Ok(value), stop) => (Some(value), stop),
            (Err(error), None) => (None, Some(Stop::Failed(self.explain(error)))),
            (Err(error), Some(stop)) => {
                tracing::debug!(step = self.what, ?error, "a step ended because it was interrupted");
                (None, Some(stop))
            }
        }
    }

    /// Runs a step of the stop until it is done or too late, or until `mercy` after the application was told to stop at
    /// once.
    pub(super) async fn stop<'a>(
        self,
        shared: &Shared,
        mercy: Duration,
        work: impl FnOnce(Context) -> BoxFuture<'a, Result<()>>,
    ) -> Result<()> {
        let cx = Context::background().with_timeout(self.limit);
        let result = tokio::select! {
            biased;
            result = guarded(|| work(cx)) => result,
            () = after_abort(shared, mercy) => Err(Error::canceled("cut short: the application stops at once")),
            () = tokio::time::sleep(self.limit + self.grace) => Err(self.too_late()),
        };
        result.map_err(|error| self.explain(error))
    }
}

/// Waits until `mercy` after the application was told to stop at once.
async fn after_abort(shared: &Shared, mercy: Duration) {
    shared.aborted().await;
    tokio::time::sleep_until(shared.aborted_at().unwrap_or_else(Instant::now) + mercy).await;
}

/// Calls a user's code and turns a panic into an error.
pub(super) fn caught<T>(call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| panicked(&*payload))
}

/// The same for code that makes a future: both halves can panic.
pub(super) async fn guarded<T, F>(make: impl FnOnce() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    contain(caught(make)?).await?
}
