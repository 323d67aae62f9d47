//! The instances of a service, as the channel uses them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bowline_balance::Index;
use bowline_core::{Context, Error, Result};
use bowline_discovery::{Watcher, no_instance};
use tokio::sync::watch;

use crate::keeper::Keeper;
use crate::node::{Node, Shared};

/// Follows a service. Reading it takes no lock.
pub(crate) struct Nodes {
    pub(crate) shared: Arc<Shared>,
    current: Arc<ArcSwap<Index<Node>>>,
    /// The revision of the snapshot that `current` is made of.
    built: watch::Receiver<u64>,
    watcher: Watcher,
}

impl Nodes {
    /// Arranges what is known, and starts the task that keeps it so. The task is the channel's tracker's.
    pub(crate) fn follow(
        watcher: Watcher,
        shared: Arc<Shared>,
        slot: Option<watch::Receiver<Option<u32>>>,
    ) -> Self {
        let (keeper, current, built) = Keeper::new(watcher.clone(), Arc::clone(&shared), slot);
        shared.tasks.spawn(keeper.run());
        Self { shared, current, built, watcher }
    }

    /// The instances now, if there are any.
    pub(crate) fn current(&self) -> Option<Arc<Index<Node>>> {
        Some(self.current.load_full()).filter(|nodes| !nodes.is_empty())
    }

    /// The instances now; waits for the first answer of the discovery if there is none yet.
    ///
    /// # Errors
    /// `UNAVAILABLE` with the reason `NO_INSTANCE` if there are no instances, or the context's error if there is no answer
    /// in its time.
    pub(crate) async fn get(&self, cx: &Context) -> Result<Arc<Index<Node>>> {
        let snapshot = self.watcher.ready(cx).await?;
        // The keeper may not have seen the answer yet.
        let mut built = self.built.clone();
        let arranged = cx.run(built.wait_for(|revision| *revision >= snapshot.revision)).await;
        arranged?.map_err(|_| Error::unavailable("the channel has ended"))?;
        self.current().ok_or_else(|| self.watcher.current().unavailable())
    }

    /// The error for a request that nobody takes, although there are instances.
    pub(crate) fn nobody(&self) -> Error {
        let service = &self.watcher.current().service;
        no_instance(format!(
            "no instance of `{service}` takes requests of production: all are of tenants; start one without a tenant"
        ))
    }
}
