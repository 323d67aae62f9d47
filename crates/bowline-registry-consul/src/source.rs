//! Follows one service for as long as it is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Error, Instance, Instant, Result, Rng, SystemRng};
use bowline_discovery::{Backoff, Ledger, Publisher};

use crate::client::{Client, Entry, FOLLOWED, Health, Listed, Node};
use crate::options::Options;

/// Lists come at least this far apart: where much changes, those in between are left out.
const APART: Duration = Duration::from_millis(50);

pub(crate) struct Source {
    client: Arc<Client>,
    publisher: Publisher,
    service: Arc<str>,
    ledger: Ledger,
    /// Up to where changes are known; `None` to begin with, and once Consul began anew.
    index: Option<u64>,
    /// When each instance was created and last changed, and its node.
    known: BTreeMap<String, Known>,
    /// Whether every question since the last list was answered.
    is_unbroken: bool,
    backoff: Backoff,
}

#[derive(PartialEq, Eq)]
struct Known {
    changes: (u64, u64),
    node: Node,
}

impl Source {
    pub(crate) fn new(client: Arc<Client>, publisher: Publisher) -> Self {
        let Options { backoff_first, backoff_max, grace, .. } = client.options;
        Self {
            service: Arc::clone(&publisher.current().service),
            client,
            publisher,
            ledger: Ledger::new("Consul", grace),
            index: None,
            known: BTreeMap::new(),
            is_unbroken: false,
            backoff: Backoff::new(backoff_first, backoff_max),
        }
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        let following = Arc::clone(&self.client.following);
        let Ok(_place) = following.try_acquire() else {
            self.publisher.fail(&Error::resource_exhausted(format!(
                "{FOLLOWED} services are followed at Consul, which is as many as an agent takes connections for"
            )));
            // In turn; whoever watches is told so much.
            let _place = following.acquire().await;
            return self.follow().await;
        };
        self.follow().await;
    }

    async fn follow(&mut self) {
        loop {
            let asked = Instant::now();
            match self.round().await {
                Ok(()) => {
                    self.backoff.reset();
                    tokio::time::sleep_until(asked + APART + SystemRng.jitter(APART)).await;
                }
                Err(error) => {
                    self.is_unbroken = false;
                    let delay = self.backoff.next(&SystemRng);
                    tracing::debug!(%error, ?delay, service = %self.service, "watching Consul failed; trying again");
                    self.publisher.fail(&error);
                    tokio::time::sleep(delay).await;
                    self.ledger.tick(Instant::now());
                }
            }
        }
    }

    /// Waits for one list, and takes it.
    async fn round(&mut self) -> Result<()> {
        // A list that is asked for after a failure comes at once, so that what is stale is live again at once.
        let index = self.index.filter(|_| self.is_unbroken);
        let client = Arc::clone(&self.client);
        let service = Arc::clone(&self.service);
        let listing = client.list(&service, index);
        tokio::pin!(listing);
        let listed = loop {
            let Some(timer) = self.ledger.timer() else { break listing.await? };
            tokio::select! {
                listed = &mut listing => break listed?,
                () = tokio::time::sleep_until(timer) => if self.ledger.tick(Instant::now()) {
                    self.ledger.publish(&self.publisher);
                }
            }
        };
        self.take(listed).await
    }

    async fn take(&mut self, listed: Listed) -> Result<()> {
        let is_continued = self.is_continued(&listed);
        let mut known = BTreeMap::new();
        let mut usable = BTreeMap::new();
        let mut names = BTreeSet::new();
        for entry in listed.entries {
            let name = name(&entry);
            names.insert(name.clone());
            let changes = (entry.service.create_index, entry.service.modify_index);
            known.insert(name.clone(), Known { changes, node: entry.node.clone() });
            usable.extend(self.instance(entry).map(|instance| (name, instance)));
        }
        let before = std::mem::replace(&mut self.known, known);
        if is_continued {
            let gone = self.ledger.replace(usable);
            // Who is listed yet has failed; who is not was removed, if this is what it was then.
            let removed =
                gone.iter().filter(|name| !names.contains(*name)).filter_map(|name| before.get(name));
            if self.ledger.is_empty() && self.was_removed(removed).await? {
                self.ledger.was_emptied();
            }
        } else {
            self.ledger.begin_anew(usable, Instant::now());
        }
        // Never 0, which is a question without an index.
        self.index = Some(listed.index.max(1));
        self.is_unbroken = true;
        self.ledger.publish(&self.publisher);
        Ok(())
    }

    /// Whether a list can be a later state of what is known: if not, Consul has lost its data and begun anew.
    fn is_continued(&self, listed: &Listed) -> bool {
        let Some(index) = self.index else { return true };
        let is_known_or_later = |entry: &Entry| {
            let changes = (entry.service.create_index, entry.service.modify_index);
            let is_known = self.known.get(&name(entry)).is_some_and(|known| known.changes == changes);
            entry.service.modify_index > index || is_known
        };
        listed.index >= index && listed.entries.iter().all(is_known_or_later)
    }

    /// Whether one of these was removed on purpose. Where no question was left unanswered, it was. Otherwise Consul may have
    /// lost its data meanwhile; the node that the instance was at is another one then, or none.
    async fn was_removed(&self, mut gone: impl Iterator<Item = &Known>) -> Result<bool> {
        let Some(last) = gone.next() else { return Ok(false) };
        if self.is_unbroken {
            return Ok(true);
        }
        let node = self.client.node(&last.node.node).await?;
        Ok(node.is_some_and(|node| {
            (node.id, node.create_index) == (last.node.id.clone(), last.node.create_index)
        }))
    }

    fn instance(&self, entry: Entry) -> Option<Instance> {
        let health = entry.health();
        if health == Health::Failing {
            return None;
        }
        let id = entry.service.id.clone();
        let found =
            entry.service.decode(&entry.node.address, health == Health::Maintained, &self.client.options.env);
        found.unwrap_or_else(|error| {
            tracing::warn!(service = %self.service, %id, %error, "an instance in Consul cannot be used");
            None
        })
    }
}

/// Identifiers are an agent's own.
fn name(entry: &Entry) -> String {
    format!("{}/{}", entry.node.node, entry.service.id)
}
