//! The state machine.

mod interrupt;
mod start;
mod step;
mod stop;

use std::sync::Arc;

use bowline_core::task::Tracker;
use bowline_core::{Error, Result};
use bowline_discovery::Registration;
use tokio::sync::mpsc;

use crate::handle::Shared;
use crate::{App, Lifecycle, Resource, Server, State};
use interrupt::{End, Interrupts};
use step::caught;

/// What was started, and so has to be stopped.
pub(crate) struct Machine {
    shared: Arc<Shared>,
    lifecycle: Lifecycle,
    /// In the order of opening.
    resources: Vec<Box<dyn Resource>>,
    servers: Vec<Bound>,
    /// In the order of registering.
    registrations: Vec<Box<dyn Registration>>,
    interrupts: Interrupts,
    ends: mpsc::Sender<End>,
    serving: Tracker,
    /// Whether health checks were told "ready".
    ready: bool,
    /// Whether consumers may have found it: it was registered, or ran.
    visible: bool,
}

/// A server that is bound.
struct Bound {
    name: String,
    server: Box<dyn Server>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Listens, does not accept yet.
    Bound,
    /// `serve` runs.
    Serving,
    /// `serve` runs and was told to end at once.
    Aborted,
    /// `serve` has returned.
    Ended,
}

impl Machine {
    pub(crate) fn new(app: &App) -> Self {
        // One end per server, so that nobody ever waits for room.
        let (ends, receiver) = mpsc::channel(app.servers.len().max(1));
        app.shared.set_background_limit(app.lifecycle.background_limit);
        Self {
            shared: Arc::clone(&app.shared),
            lifecycle: app.lifecycle.clone(),
            resources: Vec::new(),
            servers: Vec::new(),
            registrations: Vec::new(),
            interrupts: Interrupts::new(Arc::clone(&app.shared), receiver),
            ends,
            serving: Tracker::new(),
            ready: false,
            visible: false,
        }
    }

    /// The whole life. `unfit` is why the application cannot be run at all.
    pub(crate) async fn live(&mut self, app: App, unfit: Option<Error>) -> Result<()> {
        let stop = match self.start(app, unfit).await {
            Ok(()) => self.interrupts.next().await,
            Err(stop) => stop,
        };
        self.stop(stop).await
    }

    fn enter(&self, state: State) {
        self.shared.state.set(state);
    }

    /// Takes note of a server that has ended.
    fn mark_ended(&mut self) {
        for index in self.interrupts.take_ended() {
            if let Some(bound) = self.servers.get_mut(index) {
                bound.phase = Phase::Ended;
            }
        }
    }
}

/// When the future of `run` is dropped before its end, nobody is left to wait for anything.
impl Drop for Machine {
    fn drop(&mut self) {
        self.mark_ended();
        for bound in self.servers.iter().filter(|b| b.phase == Phase::Serving) {
            let _ = caught(|| bound.server.abort());
        }
        self.serving.abort();
        self.shared.background.abort();
        self.enter(State::Stopped);
    }
}
