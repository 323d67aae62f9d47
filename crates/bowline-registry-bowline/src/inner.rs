//! What the parts of an adapter share.

use std::sync::Arc;

use bowline_core::{Clock, Context, Result, Rng};
use bowline_discovery::{Backoff, BoxFuture};

use crate::api::bowline::registry::v1::registry::Client;
use crate::keeper::Keeper;
use crate::nodes::Nodes;
use crate::options::Options;
use crate::subscriptions::Subscriptions;

pub(crate) struct Inner {
    pub(crate) nodes: Nodes,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) subscriptions: Arc<Subscriptions>,
}

impl Inner {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.options.backoff_first, self.options.backoff_max)
    }

    /// A name for who registers or leases: no two are the same.
    pub(crate) fn holder(&self) -> String {
        format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    /// One request to the current node, bounded. A node that fails has had its turn.
    pub(crate) async fn attempt<T>(
        &self,
        request: impl FnOnce(Client, Context) -> BoxFuture<'static, Result<T>>,
    ) -> Result<T> {
        let (number, client) = self.nodes.current();
        let cx = Context::background().with_timeout(self.options.attempt_timeout);
        let result = cx.run(request(client.clone(), cx.clone())).await.and_then(|result| result);
        if result.as_ref().is_err_and(|error| !error.is_callers_fault() || error.is_temporary()) {
            self.nodes.failed(number);
        }
        result
    }
}
