//! Where in its life an application is.

use tokio::sync::watch;

/// Where in its life an application is. Goes forward only; a failure skips to the step that undoes what was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Not run yet.
    New,
    /// Opens resources, in order.
    Opening,
    /// Binds and starts servers.
    Starting,
    /// Runs warm-ups; servers answer, health checks say "not ready".
    WarmingUp,
    /// Health checks say "ready".
    Ready,
    /// Announces itself to the registry.
    Registering,
    /// Everything is up.
    Running,
    /// Health checks say "not ready" again; everything is still served.
    Leaving,
    /// Takes itself out of the registry.
    Deregistering,
    /// Serves those who have not heard of it yet.
    Propagating,
    /// Accepts nothing new and waits for the requests under way.
    Draining,
    /// Waits for background tasks.
    Finishing,
    /// Closes resources, in reverse.
    Closing,
    /// Over.
    Stopped,
}

/// The state, observable.
pub(crate) struct StateCell(watch::Sender<State>);

impl StateCell {
    pub(crate) fn new() -> Self {
        Self(watch::channel(State::New).0)
    }

    pub(crate) fn get(&self) -> State {
        *self.0.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    pub(crate) fn set(&self, state: State) {
        if self.0.send_replace(state) != state {
            tracing::info!(?state, "lifecycle");
        }
    }
}
