//! The registry's nodes, and which of them is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use bowline_core::{Error, Result};
use bowline_rpc::Caller;

use crate::api::bowline::registry::v1::registry::Client;

/// One or more nodes. Everybody asks the same one until it fails; then the next one.
#[derive(Debug)]
pub(crate) struct Nodes {
    clients: Vec<Client>,
    current: AtomicUsize,
}

impl Nodes {
    /// # Errors
    /// `INVALID_ARGUMENT` without a node.
    pub(crate) fn new(callers: Vec<Caller>, start: usize) -> Result<Self> {
        if callers.is_empty() {
            return Err(Error::invalid_argument("a registry without nodes; name at least one address"));
        }
        let clients: Vec<_> = callers.into_iter().map(Client::new).collect();
        let current = AtomicUsize::new(start % clients.len());
        Ok(Self { clients, current })
    }

    /// The node to ask, and its number for [`Nodes::failed`].
    pub(crate) fn current(&self) -> (usize, &Client) {
        let number = self.current.load(Ordering::Relaxed) % self.clients.len();
        (number, &self.clients[number])
    }

    /// Node `number` failed: the next one's turn, unless somebody noticed before.
    pub(crate) fn failed(&self, number: usize) {
        let next = (number + 1) % self.clients.len();
        let _ = self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
