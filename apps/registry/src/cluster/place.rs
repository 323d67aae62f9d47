//! A node's place among others, as the node itself has it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bowline_core::{Error, Instant, Result};

use super::{Links, node_without_name};
use crate::node::Shared;
use crate::peers::api::SyncMessage;
use crate::peers::{Member, Peers, StreamId, Tended};
use crate::store::{Owner, Store};

impl Shared {
    pub(crate) fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node, as others know it.
    pub(crate) fn own(&self) -> &Member {
        &self.own
    }

    /// What it says goes over these streams.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the node has no name, `FAILED_PRECONDITION` if it has streams already.
    pub(crate) fn join(&self, links: &Arc<Links>) -> Result<()> {
        if self.own.owner.node == 0 {
            return Err(node_without_name());
        }
        let joined = self.links.set(Arc::downgrade(links));
        joined.map_err(|_| Error::failed_precondition("the node is in a cluster already"))
    }

    /// Reads or changes what is said to other nodes. What comes of it for the store is told to nobody: that is what
    /// [`Shared::change`] and [`Shared::hear`] are for.
    pub(crate) fn with_peers<T>(&self, change: impl FnOnce(&mut Peers, &Store, Instant) -> T) -> T {
        let store = self.store();
        change(&mut self.peers(), &store, self.now())
    }

    /// Another node said something.
    ///
    /// # Errors
    /// `MALFORMED`: the stream has to end.
    pub(crate) fn hear(&self, stream: StreamId, message: SyncMessage) -> Result<()> {
        let heard = self.apply(|store, now| self.peers().receive(stream, message, store, now));
        if let Some(links) = self.links.get().and_then(Weak::upgrade) {
            links.wake();
        }
        self.heard.notify_waiters();
        heard
    }

    /// Looks after the streams, for who is there. `lives` are all that are heard of, also two of one node.
    pub(crate) fn tend(&self, others: &[Member], lives: BTreeSet<Owner>) -> Tended {
        self.apply(|store, now| {
            let tended = self.peers().tend(&self.own, others, now);
            store.set_live(lives, now);
            self.sweeps.store(tended.topology.sweeps, Ordering::Relaxed);
            tended
        })
    }

    /// Waits until another node has told what there is.
    pub(crate) async fn synced(&self) {
        self.until(Peers::is_synced).await;
    }

    /// Waits until everything is said, and all have taken it in.
    pub(crate) async fn said(&self) {
        self.until(Peers::is_idle).await;
    }

    /// Waits until something is so that comes with what other nodes say.
    async fn until(&self, what: impl Fn(&Peers) -> bool) {
        loop {
            let heard = self.heard.notified();
            if what(&self.peers()) {
                return;
            }
            heard.await;
        }
    }

    /// Serves from now on.
    pub(crate) fn serve(&self) {
        self.peers().set_ready();
        self.serving.send_replace(true);
    }

    /// Its zone, and whether it serves.
    pub(crate) fn standing(&self) -> (&str, bool) {
        (&self.own.zone, *self.serving.borrow())
    }

    /// Whether it serves.
    ///
    /// # Errors
    /// `UNAVAILABLE` while it does not know yet what there is.
    pub(crate) fn check_serving(&self) -> Result<()> {
        if *self.serving.borrow() {
            return Ok(());
        }
        let message =
            "the registry node is still learning what there is; try another one or come back in a second";
        Err(Error::unavailable(message).with_retry_after(Duration::from_secs(1)))
    }
}
