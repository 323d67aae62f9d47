//! The instances of a service, as the channel uses them.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bowline_balance::{Index, IndexOptions, SlowStart};
use bowline_core::{Context, Endpoint, Instance, InstanceStatus, Instant, Result};
use bowline_discovery::{Snapshot, Watcher};

use crate::node::{Link, Node, Shared};

/// Follows a service. Reading it takes no lock.
pub(crate) struct Nodes {
    current: Arc<ArcSwap<Index<Node>>>,
    watcher: Watcher,
}

impl Nodes {
    pub(crate) fn follow(mut watcher: Watcher, shared: &Arc<Shared>) -> Self {
        let current = Arc::new(ArcSwap::from_pointee(update(None, &watcher.current(), shared)));
        let this = Self { current: Arc::clone(&current), watcher: watcher.clone() };
        // The task owns no part of the channel that owns it: it ends when the channel's tracker says so.
        let (weak, shared) = (Arc::downgrade(&current), Arc::downgrade(shared));
        if let Some(strong) = shared.upgrade() {
            strong.tasks.clone().spawn(async move {
                loop {
                    let (Some(current), Some(shared)) = (weak.upgrade(), shared.upgrade()) else { return };
                    let snapshot = watcher.current();
                    current.store(Arc::new(update(Some(&current.load()), &snapshot, &shared)));
                    drop((current, shared));
                    watcher.changed().await;
                }
            });
        }
        this
    }

    /// The instances now, if there are any.
    pub(crate) fn current(&self) -> Option<Arc<Index<Node>>> {
        Some(self.current.load_full()).filter(|nodes| !nodes.is_empty())
    }

    /// The instances now; waits for the first answer of the discovery if there is none yet.
    ///
    /// # Errors
    /// `UNAVAILABLE` if there are no instances, or the context's error if there is no answer in its time.
    pub(crate) async fn get(&self, cx: &Context, shared: &Arc<Shared>) -> Result<Arc<Index<Node>>> {
        let snapshot = self.watcher.ready(cx).await?;
        let nodes = self.current.load_full();
        if !nodes.is_empty() {
            return Ok(nodes);
        }
        // The answer may be newer than what the follower has stored.
        let nodes = update(Some(&nodes), &snapshot, shared);
        if nodes.is_empty() { Err(snapshot.unavailable()) } else { Ok(Arc::new(nodes)) }
    }
}

/// The nodes of a snapshot. What is known of the way to an endpoint survives.
fn update(old: Option<&Index<Node>>, snapshot: &Snapshot, shared: &Arc<Shared>) -> Index<Node> {
    let links: HashMap<&Endpoint, &Arc<Link>> =
        old.iter().flat_map(|old| old.iter()).map(|node| (&node.link.endpoint, &node.link)).collect();
    let usable = snapshot.instances.iter().filter(|instance| instance.status == InstanceStatus::Up);
    let nodes = usable
        .filter_map(|instance| {
            let endpoint = endpoint(instance)?;
            let link = links
                .get(endpoint)
                .map_or_else(|| Link::new(endpoint.clone(), Arc::clone(shared)), |link| Arc::clone(link));
            Some(Node { instance: Arc::clone(instance), link })
        })
        .collect();
    let options = IndexOptions { slow_start: SlowStart::OFF, ..IndexOptions::default() };
    Index::flat(nodes, &options, old, Instant::now())
}

fn endpoint(instance: &Instance) -> Option<&Endpoint> {
    let first = instance.endpoints.first();
    if first.is_none() {
        tracing::warn!(instance = %instance.id, "an instance without endpoints is left out");
    }
    first
}
