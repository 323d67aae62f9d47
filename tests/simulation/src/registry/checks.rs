//! What must hold.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bowline_registry::store::{Registered, ServiceKey};
use bowline_registry_bowline::api::bowline::registry::v1::RemovalReason;

use super::client::{Client, Phase};
use super::node::{Node, Seen};
use super::world::{Checked, Host, World};

/// How long two nodes that reach each other may take to find it out, some way round whatever else is broken: a silence, a
/// call that nobody takes, and another one.
pub(super) const CALM: Duration = Duration::from_secs(10);

/// How long a word may be on its way while nothing is broken: over three streams, each of which takes 22 ms at most.
const ON_ITS_WAY: Duration = Duration::from_millis(70);

impl World {
    /// What those who follow node `n` see now, and whether it may be.
    pub(super) fn look(&mut self, n: usize) -> Checked {
        let Some(node) = &mut self.hosts[n].node else { return Ok(()) };
        let seen = node.look().map_err(|e| format!("node {n}: {e}"))?;
        for (key, seen) in seen {
            self.sums.changes += 1;
            match seen {
                Seen::Came { id, holder } => {
                    self.tell(|| format!("node {n}: {key} {id} of {holder} is there"));
                    let cancelled =
                        self.hosts[n].node.as_ref().is_some_and(|n| n.cancelled.contains(&holder));
                    if cancelled {
                        return Err(format!("node {n}: {id} of {holder} came back after it was cancelled"));
                    }
                }
                Seen::Went { id, holder, reason } => {
                    self.tell(|| format!("node {n}: {key} {id} of {holder} is gone, {reason:?}"));
                    self.check_gone(n, &id, &holder)?;
                    let now = self.now();
                    let Some(node) = &mut self.hosts[n].node else { continue };
                    if reason == RemovalReason::REMOVAL_REASON_CANCELLED {
                        node.cancelled.insert(Arc::clone(&holder));
                    }
                    node.went.insert(holder, now);
                }
            }
        }
        Ok(())
    }

    /// Nobody who lives, and whose node this node reaches, may be gone.
    pub(super) fn check_gone(&self, n: usize, id: &str, holder: &Arc<str>) -> Checked {
        let now = self.now();
        let Some(client) = self.clients.iter().find(|c| c.holder == *holder) else { return Ok(()) };
        let Some((renewed, at)) = client.renewed else { return Ok(()) };
        if client.phase != Phase::Running || at + client.ttl <= now {
            return Ok(());
        }
        // A node that has died since knows nothing of that.
        if self.hosts[renewed].node.as_ref().is_none_or(|node| node.booted > at) {
            return Ok(());
        }
        // It was gone there as well, rightly, before it came anew; that word may still be on its way.
        let went = self.hosts[renewed].node.as_ref().and_then(|node| node.went.get(holder));
        if went.is_some_and(|went| *went + ON_ITS_WAY > now) {
            return Ok(());
        }
        let calm = |host: &Host| host.disturbed + CALM <= now && host.node.is_some();
        let reaches = n == renewed || self.network.is_clear(n, renewed);
        if calm(&self.hosts[n]) && calm(&self.hosts[renewed]) && reaches {
            let (ago, links) = (now - at, self.links());
            return Err(format!(
                "node {n} lost {id} of {holder}, which node {renewed} renewed {ago:?} ago; {links}"
            ));
        }
        Ok(())
    }

    pub(super) fn is_equal(&self) -> bool {
        let mut roots = self.nodes().map(|n| n.store.root());
        let first = roots.next();
        roots.all(|root| Some(root) == first)
    }

    /// Whose instances each node takes for those of lost nodes, and whether it is to sweep them.
    pub(super) fn orphans(&self) -> String {
        let of = |n: &Node| {
            let all = n.views.keys().flat_map(|key| n.store.registered(key).1);
            let owners: BTreeSet<_> = all.map(|r| r.owner).collect();
            let lost: Vec<_> =
                owners.into_iter().filter(|o| !self.nodes().any(|n| n.own.owner == *o)).collect();
            (n.own.owner, n.store.orphans(), n.tended.topology.sweeps, lost)
        };
        format!("{:?}", self.nodes().map(of).collect::<Vec<_>>())
    }

    /// Who has a stream to whom, from whose view.
    pub(super) fn links(&self) -> String {
        let of = |n: &Node| {
            n.streams.keys().map(|s| (*s, self.streams.get(s).map(|s| s.ends))).collect::<Vec<_>>()
        };
        let all = self
            .hosts
            .iter()
            .map(|h| (&h.name, h.node.as_ref().map(|n| (of(n), &n.tended.topology.neighbours))));
        format!("{:?}", all.collect::<Vec<_>>())
    }

    pub(super) fn differences(&self) -> String {
        let mut told = Vec::new();
        let keys: BTreeSet<_> = self.nodes().flat_map(|n| n.views.keys()).collect();
        for key in keys {
            let all: Vec<_> = self.nodes().map(|n| n.store.versions(key)).collect();
            let every: BTreeSet<_> = all.iter().flatten().collect();
            for fact in every {
                let have: Vec<_> = (0..all.len()).filter(|n| all[*n].contains(fact)).collect();
                if have.len() < all.len() {
                    told.push(format!("{key} {fact:?} at {have:?}"));
                }
            }
        }
        told.truncate(8);
        told.join("; ")
    }

    /// All nodes have the same, whatever their sums say; and who follows one has what it has.
    pub(super) fn check_contents(&self) -> Checked {
        let keys: BTreeSet<_> = self.nodes().flat_map(|n| n.views.keys()).collect();
        let Some(first) = self.nodes().next() else { return Ok(()) };
        for key in keys {
            let all = first.store.registered(key).1;
            for (n, node) in self.nodes().enumerate() {
                let others = node.store.registered(key).1;
                if others.len() != all.len() || others.iter().zip(&all).any(|(a, b)| !is_same(a, b)) {
                    return Err(format!("node {n} has the same sums, and of {key} {others:?}, not {all:?}"));
                }
                let seen = node.views.get(key).map(|v| v.hashes.iter().map(|(id, h)| (id, *h)));
                let has = others.iter().map(|r| (r.record.id(), r.record.hash()));
                if !has.eq(seen.into_iter().flatten()) {
                    return Err(format!("who follows {key} at node {n} has not {others:?}"));
                }
            }
        }
        Ok(())
    }

    /// Everybody who lives is everywhere, as they last said; nobody else is, but who may be protected. Once the protections
    /// are ended, nobody.
    pub(super) fn check_end(&self, ended: bool) -> Checked {
        let mut protected: BTreeSet<ServiceKey> =
            self.nodes().flat_map(|n| n.store.protected()).map(|p| p.key).collect();
        if ended && let Some(key) = protected.pop_first() {
            return Err(format!("{key} is protected for ever"));
        }
        if !self.is_equal() {
            return Err(format!("not equal long after the last mend: {}", self.differences()));
        }
        self.check_contents()?;
        for (n, node) in self.nodes().enumerate() {
            for client in &self.clients {
                let found = node.store.instance(&client.key, &client.id);
                let found = found.filter(|f| f.holder == client.holder);
                let is_protected = protected.contains(&client.key);
                self.check_client(n, client, found, is_protected, node.store.orphans())?;
            }
        }
        Ok(())
    }

    fn check_client(
        &self,
        n: usize,
        client: &Client,
        found: Option<Registered>,
        is_protected: bool,
        orphans: usize,
    ) -> Checked {
        let (id, holder) = (&client.id, &client.holder);
        match (client.phase, found) {
            (Phase::Running, None) => {
                let rival = |c: &&Client| c.holder != client.holder && c.id == client.id;
                let mut rivals = self.clients.iter().filter(rival);
                // One of a name is enough; and the dead may hold what the living want, while they are protected.
                if !is_protected && !rivals.any(|c| c.phase == Phase::Running) {
                    return Err(format!("node {n} has not {id} of {holder}, which lives"));
                }
            }
            (Phase::Running, Some(found)) => {
                let said = client.record();
                if *found.registered != said {
                    let (is, said) = (found.registered.instance(), said.instance());
                    return Err(format!("node {n} has {id} as {is:?}, and it said {said:?} last"));
                }
            }
            // A node that died knowing it alone does not count: its word went with it.
            (Phase::Stopped { confirmed: Some((by, at)) }, Some(found))
                if self.hosts[by].node.as_ref().is_some_and(|node| node.booted <= at) =>
            {
                let owner = found.owner;
                return Err(format!("node {n} has {id} of {holder}, which was cancelled, from {owner:?}"));
            }
            (Phase::Crashed | Phase::Stopped { .. }, Some(_)) if orphans == 0 && !is_protected => {
                return Err(format!("node {n} has {id} of {holder}, which is long dead"));
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_same(a: &Registered, b: &Registered) -> bool {
    let said = |r: &Registered| (Arc::clone(&r.holder), r.sequence, r.ttl, r.owner);
    a.registered == b.registered && a.record == b.record && said(a) == said(b)
}
