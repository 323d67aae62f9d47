//! Holding on to a running application.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bowline_core::{Canceller, Context, Instance, Instant, Result};
use tokio::sync::watch;

use crate::State;
use crate::background::Background;
use crate::state::StateCell;

/// A hold on an application, from before it runs until after it has stopped. Cheap to clone.
///
/// ```
/// use bowline_app::{App, State};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let app = App::new("worker");
/// let handle = app.handle();
/// handle.shutdown();
/// app.run_until(std::future::pending()).await?;
/// assert_eq!(handle.state(), State::Stopped);
/// # Ok::<_, bowline_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) state: StateCell,
    pub(crate) background: Background,
    pub(crate) shutdown: (Context, Canceller),
    pub(crate) abort: (Context, Canceller),
    aborted_at: OnceLock<Instant>,
    instance: Mutex<Arc<Instance>>,
    background_limit: OnceLock<usize>,
}

impl Shared {
    pub(crate) fn new(instance: Instance) -> Self {
        Self {
            state: StateCell::new(),
            background: Background::new(),
            shutdown: Context::background().with_cancel(),
            abort: Context::background().with_cancel(),
            aborted_at: OnceLock::new(),
            instance: Mutex::new(Arc::new(instance)),
            background_limit: OnceLock::new(),
        }
    }

    pub(crate) fn instance(&self) -> Arc<Instance> {
        Arc::clone(&self.instance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_instance(&self, instance: Instance) {
        *self.instance.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(instance);
    }

    pub(crate) fn set_background_limit(&self, limit: usize) {
        // The application runs once; a second value cannot come.
        let _ = self.background_limit.set(limit);
    }

    /// When the application was told to stop at once, if it was.
    pub(crate) fn aborted_at(&self) -> Option<Instant> {
        self.aborted_at.get().copied()
    }

    /// Waits until the application is told to stop at once.
    pub(crate) async fn aborted(&self) {
        self.abort.0.done().await;
    }

    pub(crate) fn spawn<F>(&self, name: &str, task: F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let limit = self.background_limit.get().copied().unwrap_or(usize::MAX);
        self.background.spawn(name, limit, task)
    }
}

impl Handle {
    /// Begins to stop, in good order. Doing it twice is doing it once. Before the application runs, it makes it stop where
    /// it would begin.
    pub fn shutdown(&self) {
        self.0.shutdown.1.cancel();
    }

    /// Stops at once: what is under way is cancelled, resources share [`abort_grace`](crate::Lifecycle::abort_grace) to
    /// close. What a second signal does.
    pub fn abort(&self) {
        let _ = self.0.aborted_at.set(Instant::now());
        self.0.shutdown.1.cancel();
        self.0.abort.1.cancel();
    }

    /// Runs work that outlives what began it, such as sending a mail after the answer. It is tracked and waited for, within
    /// bounds, when the application stops. Nothing cancels it before that bound, so that work begun by the last request is
    /// done; a loop that has to be told to stop selects on [`Handle::context`]. Its failure is logged under `name`.
    ///
    /// Call it within a tokio runtime, with a [detached](Context::detached) context for what the work calls.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when [`background_limit`](crate::Lifecycle::background_limit) tasks run,
    /// `FAILED_PRECONDITION` when the application has finished its background work.
    pub fn background<F>(&self, name: &str, task: F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.0.spawn(name, task)
    }

    /// A context that is cancelled when the application begins to drain.
    pub fn context(&self) -> &Context {
        self.0.background.context()
    }

    /// Where in its life the application is.
    pub fn state(&self) -> State {
        self.0.state.get()
    }

    /// Follows the state. Only the newest is kept, so short ones can be missed.
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.0.state.watch()
    }

    /// Waits until the application runs, or has failed to: until the state is [`State::Running`] or a later one.
    pub async fn running(&self) {
        // The sender lives as long as this handle.
        let _ = self.watch_state().wait_for(|state| *state >= State::Running).await;
    }

    /// The instance as it is registered. Its endpoints are known once the servers are bound.
    pub fn instance(&self) -> Arc<Instance> {
        self.0.instance()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("state", &self.state())
            .field("instance", &self.instance())
            .finish_non_exhaustive()
    }
}
