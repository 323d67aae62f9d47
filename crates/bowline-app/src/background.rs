//! Background tasks: tracked, limited, and waited for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_core::task::{Tracker, contain};
use bowline_core::{Canceller, Context, Error, Result};

/// The owner of an application's background tasks.
pub(crate) struct Background {
    tasks: Tracker,
    names: Arc<Mutex<Names>>,
    closed: AtomicBool,
    /// What tasks get; cancelled when draining begins.
    cx: Context,
    stop: Canceller,
}

#[derive(Default)]
struct Names {
    running: BTreeMap<u64, Arc<str>>,
    next: u64,
}

/// A task's place on the list, given up however it ends.
struct Place {
    names: Arc<Mutex<Names>>,
    number: u64,
}

impl Background {
    pub(crate) fn new() -> Self {
        let (cx, stop) = Context::background().with_cancel();
        Self { tasks: Tracker::new(), names: Arc::default(), closed: AtomicBool::new(false), cx, stop }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.cx
    }

    pub(crate) fn spawn<F>(&self, name: &str, limit: usize, task: F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let name: Arc<str> = name.into();
        let mut names = lock(&self.names);
        // Under the lock, so that no task slips in after the last look.
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::failed_precondition(format!(
                "background task `{name}` came after the application had finished its background work"
            )));
        }
        if names.running.len() >= limit {
            return Err(Error::resource_exhausted(format!(
                "background task `{name}` is one too many: {limit} run already; see what holds them up, or raise lifecycle.background_limit"
            )));
        }
        let number = names.next;
        names.next += 1;
        names.running.insert(number, Arc::clone(&name));
        let place = Place { names: Arc::clone(&self.names), number };
        self.tasks.spawn(async move {
            let _place = place;
            if let Err(error) = contain(task).await.and_then(|result| result) {
                // A task that says it was told to stop did as it was told.
                if !error.is_canceled() {
                    tracing::error!(task = %name, ?error, "a background task failed");
                }
            }
        });
        Ok(())
    }

    /// Tells tasks to end.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until no task runs and none can come any more.
    pub(crate) async fn finish(&self) {
        loop {
            self.tasks.wait().await;
            let names = lock(&self.names);
            if names.running.is_empty() {
                self.closed.store(true, Ordering::SeqCst);
                return;
            }
        }
    }

    /// Takes no more tasks and drops those that run at their next await.
    pub(crate) fn abort(&self) {
        let _names = lock(&self.names);
        self.closed.store(true, Ordering::SeqCst);
        self.stop.cancel();
        self.tasks.abort();
    }

    /// What runs, each name once.
    pub(crate) fn running(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = lock(&self.names).running.values().cloned().collect();
        names.sort();
        names.dedup();
        names
    }
}

fn lock(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.names).running.remove(&self.number);
    }
}
