//! What ends a start or a run: a request to stop, or a server that ends by itself.

use std::sync::Arc;

use bowline_core::{Error, Result};
use futures_util::FutureExt;
use tokio::sync::mpsc;

use crate::handle::Shared;

/// Why the application stops.
pub(super) enum Stop {
    /// It was told to.
    Requested,
    /// Something failed: the root cause.
    Failed(Error),
}

/// The end of a server's `serve`.
pub(super) struct End {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) result: Result<()>,
}

pub(super) struct Interrupts {
    shared: Arc<Shared>,
    ends: mpsc::Receiver<End>,
    ended: Vec<usize>,
}

impl Interrupts {
    pub(super) fn new(shared: Arc<Shared>, ends: mpsc::Receiver<End>) -> Self {
        Self { shared, ends, ended: Vec::new() }
    }

    /// Waits for a reason to stop. A crash goes before a request: it is the more telling one.
    pub(super) async fn next(&mut self) -> Stop {
        tokio::select! {
            biased;
            end = Self::end(&mut self.ends) => {
                self.ended.push(end.index);
                Stop::Failed(match end.result {
                    Err(error) => error.context(format!("server `{}` crashed", end.name)),
                    Ok(()) => Error::internal(format!("server `{}` ended by itself", end.name)),
                })
            }
            _ = self.shared.shutdown.0.done() => Stop::Requested,
        }
    }

    /// A reason to stop that is there already.
    pub(super) fn now(&mut self) -> Option<Stop> {
        self.next().now_or_never()
    }

    /// Waits for the next server to end while stopping, when that is as it should be. A failure is secondary by then.
    pub(super) async fn next_end(&mut self) {
        let end = Self::end(&mut self.ends).await;
        self.ended.push(end.index);
        if let Err(error) = end.result {
            tracing::warn!(server = end.name, ?error, "a server failed while it was stopped");
        }
    }

    /// Which servers have ended since the last call.
    pub(super) fn take_ended(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.ended)
    }

    async fn end(ends: &mut mpsc::Receiver<End>) -> End {
        match ends.recv().await {
            Some(end) => end,
            // The machine holds a sender.
            None => std::future::pending().await,
        }
    }
}
