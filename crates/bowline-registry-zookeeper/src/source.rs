//! Follows one service for as long as it is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bowline_core::{Error, Instance, Instant, Result, SystemRng};
use bowline_discovery::{Backoff, Ledger, Publisher, kratos};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;

use crate::link::{Link, Watch};
use crate::options::Options;
use crate::session::State;
use crate::wire::{self, Stat, code, op};

/// How many nodes are asked for at a time.
const AT_A_TIME: usize = 128;

pub(crate) struct Source {
    session: watch::Receiver<State>,
    publisher: Publisher,
    env: String,
    /// The service's node.
    path: String,
    ledger: Ledger,
    /// What tells this history of the registry from another one.
    mark: Mark,
    /// Who went since the ledger was last published with somebody in it, and the last change of each.
    gone: BTreeMap<String, i64>,
    backoff: Backoff,
}

#[derive(Default)]
struct Mark {
    /// The last change that a list was made after.
    zxid: i64,
    /// Which change created the service's node, and when: no other history has both.
    parent: Option<(i64, i64)>,
    /// The last change of each instance's node, and its session.
    nodes: BTreeMap<String, (i64, i64)>,
}

/// A node as it was read; `None` if it is not there.
type Node = Option<(Stat, bytes::Bytes)>;

impl Source {
    pub(crate) fn new(session: watch::Receiver<State>, options: &Options, publisher: Publisher) -> Self {
        let path = format!("{}/{}", options.prefix, publisher.current().service);
        Self {
            session,
            publisher,
            env: options.env.clone(),
            path,
            ledger: Ledger::new("ZooKeeper", options.grace),
            mark: Mark::default(),
            gone: BTreeMap::new(),
            backoff: Backoff::new(options.backoff_first, options.backoff_max),
        }
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let link = self.link().await;
            let Err(error) = self.follow(&link).await;
            let delay = self.backoff.next(&SystemRng);
            tracing::debug!(%error, ?delay, service = %self.path, "watching ZooKeeper failed; trying again");
            self.publisher.fail(&error);
            self.wait(delay).await;
        }
    }

    /// Waits, and lets the grace end meanwhile.
    async fn wait(&mut self, delay: std::time::Duration) {
        tokio::time::sleep(delay).await;
        self.ledger.tick(Instant::now());
    }

    /// Waits for a connection, and tells why there is none.
    async fn link(&mut self) -> Arc<Link> {
        loop {
            let State { link, fault, .. } = self.session.borrow_and_update().clone();
            if let Some(link) = link {
                return link;
            }
            if let Some(fault) = fault {
                self.publisher.fail(&Error::unavailable(fault.to_string()));
            }
            if self.session.changed().await.is_err() {
                // The registry is gone, and this with it.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Lists, and follows the changes from there on.
    async fn follow(&mut self, link: &Arc<Link>) -> Result<std::convert::Infallible> {
        // Watched first: whatever changes while the list is read is looked at again.
        let watch = link.watch(&self.path).await?;
        self.list(link).await?;
        self.backoff.reset();
        loop {
            let changed = self.changed(&watch).await?;
            let nodes = self.read(link, changed).await?;
            for (name, node) in nodes {
                self.take(&name, node);
            }
            self.tell(link).await?;
        }
    }

    /// The names of the nodes that changed.
    async fn changed(&mut self, watch: &Watch) -> Result<BTreeSet<String>> {
        loop {
            let Some(timer) = self.ledger.timer() else { return watch.changes.next().await };
            tokio::select! {
                changed = watch.changes.next() => return changed,
                () = tokio::time::sleep_until(timer) => if self.ledger.tick(Instant::now()) {
                    self.ledger.publish(&self.publisher);
                }
            }
        }
    }

    async fn read(
        &self,
        link: &Link,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Vec<(String, Node)>> {
        let path = &self.path;
        let reading = names.into_iter().map(|name| async move {
            let reply = link.call(op::GET_DATA, wire::question(&format!("{path}/{name}"))).await?;
            if reply.code == code::NO_NODE {
                return Ok((name, None));
            }
            let mut reader = reply.ok("to read an instance")?;
            let data = reader.bytes()?;
            Ok((name, Some((Stat::read(&mut reader)?, data))))
        });
        stream::iter(reading).buffered(AT_A_TIME).try_collect().await
    }

    /// Reads everything there is.
    async fn list(&mut self, link: &Link) -> Result<()> {
        let reply = link.call(op::GET_CHILDREN2, wire::question(&self.path)).await?;
        let zxid = reply.zxid;
        let (names, parent) = if reply.code == code::NO_NODE {
            (Vec::new(), None)
        } else {
            let mut reader = reply.ok("to list a service")?;
            let names = reader.texts()?;
            let stat = Stat::read(&mut reader)?;
            (names, Some((stat.czxid, stat.ctime)))
        };
        let mut nodes = self.read(link, names).await?;
        nodes.retain(|(_, node)| node.is_some());
        let is_later = self.mark.is_continued(zxid, parent, &nodes);
        let gone_of = std::mem::replace(&mut self.mark, Mark { zxid, parent, nodes: BTreeMap::new() }).nodes;
        let mut listed = BTreeMap::new();
        for (name, node) in nodes {
            let Some((stat, data)) = node else { continue };
            self.mark.note(&name, &stat);
            listed.extend(self.instance(&name, &data).map(|instance| (name, instance)));
        }
        if is_later {
            for name in self.ledger.replace(listed) {
                let changed = gone_of.get(&name).map_or(0, |known| known.0);
                self.gone.insert(name, changed);
            }
        } else {
            self.gone.clear();
            self.ledger.begin_anew(listed, Instant::now());
        }
        self.tell(link).await
    }

    fn instance(&self, name: &str, data: &[u8]) -> Option<Instance> {
        let service = Arc::clone(&self.publisher.current().service);
        kratos::from_json(data, &service, &self.env).unwrap_or_else(|error| {
            tracing::warn!(node = %format!("{}/{name}", self.path), %error, "an instance in ZooKeeper cannot be used");
            None
        })
    }

    /// Takes a node that changed.
    fn take(&mut self, name: &str, node: Node) {
        let known = self.mark.nodes.get(name).map_or(0, |known| known.0);
        let found = node.and_then(|(stat, data)| {
            self.mark.note(name, &stat);
            self.instance(name, &data)
        });
        match found {
            Some(instance) => self.ledger.set(name, instance),
            None => {
                self.mark.nodes.remove(name);
                if self.ledger.remove(name) {
                    self.gone.insert(name.to_owned(), known);
                }
            }
        }
    }

    /// Publishes. Where nothing is left, the service's node tells whether the last one was removed, and did not die.
    async fn tell(&mut self, link: &Link) -> Result<()> {
        if !self.ledger.is_empty() {
            self.gone.clear();
        } else if !self.gone.is_empty() {
            let reply = link.call(op::GET_DATA, wire::question(&self.path)).await?;
            if reply.code != code::NO_NODE {
                let mut reader = reply.ok("to read a service")?;
                let removed = reader.text().unwrap_or_default();
                let stat = Stat::read(&mut reader)?;
                let is_newer = self.gone.get(&removed).is_some_and(|known| *known < stat.mzxid);
                if is_newer && stat.mzxid == stat.pzxid {
                    self.ledger.was_emptied();
                }
            }
        }
        self.ledger.publish(&self.publisher);
        Ok(())
    }
}

impl Mark {
    fn note(&mut self, name: &str, stat: &Stat) {
        self.zxid = self.zxid.max(stat.mzxid);
        self.nodes.insert(name.to_owned(), (stat.mzxid, stat.owner));
    }

    /// Whether a list can be a later state of what is known: if not, ZooKeeper has lost its data and begun anew.
    fn is_continued(&self, zxid: i64, parent: Option<(i64, i64)>, nodes: &[(String, Node)]) -> bool {
        let is_known_or_later = |(name, node): &(String, Node)| {
            node.as_ref().is_none_or(|(stat, _)| {
                stat.mzxid > self.zxid || self.nodes.get(name) == Some(&(stat.mzxid, stat.owner))
            })
        };
        let is_same_parent = self.parent.is_none() || self.parent == parent;
        zxid >= self.zxid && is_same_parent && nodes.iter().all(is_known_or_later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, mzxid: i64, owner: i64) -> (String, Node) {
        (name.into(), Some((Stat { mzxid, owner, ..Stat::default() }, bytes::Bytes::new())))
    }

    #[test]
    fn a_later_list_continues_and_one_of_another_history_does_not() {
        let mut mark = Mark { zxid: 9, parent: Some((3, 1_000)), nodes: BTreeMap::new() };
        mark.note("a", &Stat { mzxid: 5, owner: 77, ..Stat::default() });
        let continued = |zxid, parent, nodes: &[_]| mark.is_continued(zxid, parent, nodes);
        let parent = Some((3, 1_000));
        assert!(continued(9, parent, &[node("a", 5, 77)]));
        assert!(continued(12, parent, &[node("a", 5, 77), node("b", 11, 78)]));
        assert!(continued(12, parent, &[]), "whether the last one is missed is asked elsewhere");
        assert!(!continued(8, parent, &[node("a", 5, 77)]), "it counts from an earlier change");
        assert!(!continued(12, Some((3, 2_000)), &[]), "the service's node is another one");
        assert!(!continued(12, None, &[]), "the service's node is gone");
        assert!(!continued(12, parent, &[node("a", 5, 78)]), "it is of another session and not new");
        assert!(!continued(12, parent, &[node("b", 6, 78)]), "it would have been seen");
        assert!(Mark::default().is_continued(1, None, &[]), "the first list");
    }
}
