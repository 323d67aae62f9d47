//! The task that keeps a channel's index.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bowline_balance::{Candidate, Index, IndexOptions};
use bowline_core::{Endpoint, Instance, InstanceId, InstanceStatus, Instant};
use bowline_discovery::{Snapshot, State, Watcher};
use bowline_telemetry::InstanceCounts;
use tokio::sync::watch;

use crate::node::{Link, Node, Shared};
use crate::probe::{Counted, probe};

/// How long a request may find out whether an instance on probation is well, before it is asked by a probe.
const HEAD_START: Duration = Duration::from_secs(1);

/// Arranges the instances anew when something has changed, and judges them. One for each channel; only it writes the index.
pub(crate) struct Keeper {
    watcher: Watcher,
    shared: Arc<Shared>,
    slot: Option<watch::Receiver<Option<u32>>>,
    options: IndexOptions,
    current: Arc<ArcSwap<Index<Node>>>,
    built: watch::Sender<u64>,
    snapshot: Arc<Snapshot>,
    /// How often to sweep: the ejection's interval.
    interval: Duration,
    sweep_at: Instant,
    /// Whom to probe is asked no earlier.
    probe_at: Instant,
    /// Probes under way.
    probing: Arc<AtomicUsize>,
    /// Until when somebody warms up: shares of zones and clusters follow.
    warm_at: Option<Instant>,
}

impl Keeper {
    /// A keeper that has arranged what is known now.
    pub(crate) fn new(
        watcher: Watcher,
        shared: Arc<Shared>,
        slot: Option<watch::Receiver<Option<u32>>>,
    ) -> (Self, Arc<ArcSwap<Index<Node>>>, watch::Receiver<u64>) {
        let now = Instant::now();
        let balance = &shared.options.balance;
        let options = balance.index(slot.as_ref().and_then(|slot| *slot.borrow()));
        let interval = balance.ejection.unwrap_or_default().interval;
        let snapshot = watcher.current();
        let current = Arc::new(ArcSwap::from_pointee(Index::build(Vec::new(), &options, None, now)));
        let (built, revision) = watch::channel(0);
        let mut keeper = Self {
            watcher,
            shared,
            slot,
            options,
            current: Arc::clone(&current),
            built,
            snapshot,
            interval,
            sweep_at: now + interval,
            probe_at: now,
            probing: Arc::default(),
            warm_at: None,
        };
        keeper.take_in(now);
        (keeper, current, revision)
    }

    /// Goes on until the channel's tracker ends it.
    pub(crate) async fn run(mut self) {
        loop {
            let due = self.due(Instant::now());
            tokio::select! {
                snapshot = self.watcher.changed() => {
                    self.snapshot = snapshot;
                    self.take_in(Instant::now());
                }
                () = changed(&mut self.slot) => {
                    let slot = self.slot.as_ref().and_then(|slot| *slot.borrow());
                    let seed = self.options.seed;
                    self.options = IndexOptions { seed, ..self.shared.options.balance.index(slot) };
                    self.shared.signals.rebuild();
                }
                () = self.shared.signals.rung() => {}
                () = at(due) => {}
            }
            self.turn(Instant::now());
        }
    }

    /// When there is something to do although nobody rings.
    fn due(&self, now: Instant) -> Option<Instant> {
        let nodes = self.current.load();
        if nodes.is_empty() {
            return None;
        }
        let balance = &self.shared.options.balance;
        let back =
            balance.ejection.and_then(|ejection| ejection.next_return(&nodes, now)).map(|left| now + left);
        let probe = self.wants_probes(&nodes).then_some(self.probe_at);
        [Some(self.sweep_at), back, probe, self.warm_at].into_iter().flatten().min()
    }

    fn turn(&mut self, now: Instant) {
        let wanted = self.shared.signals.take();
        let nodes = self.current.load_full();
        let ejection = self.shared.options.balance.ejection;
        let is_over = ejection
            .and_then(|ejection| ejection.next_return(&nodes, now))
            .is_some_and(|left| left.is_zero());
        let mut is_due = wanted.rebuild;
        if is_over || now >= self.sweep_at {
            ejection.inspect(|ejection| drop(ejection.sweep(&nodes, now)));
            self.sweep_at = now + self.interval;
            nodes.iter().filter(|node| !node.link.is_inside()).for_each(|node| node.link.rest());
            // Those who warm up have come further.
            is_due |= self.warm_at.is_some();
        } else if wanted.look {
            ejection.inspect(|ejection| drop(ejection.look(&nodes, now)));
        }
        if self.warm_at.is_some_and(|warm_at| now >= warm_at) {
            self.warm_at = None;
            is_due = true;
        }
        is_due |= self.note(&nodes, now);
        if is_due {
            self.arrange(nodes.iter().cloned().collect(), now);
        }
        self.probe(now);
    }

    /// Takes in the newest list. What is known of the way to an instance survives.
    fn take_in(&mut self, now: Instant) {
        let before = self.current.load_full();
        let links: HashMap<(&InstanceId, &Endpoint), &Arc<Link>> =
            before.iter().map(|node| ((&node.instance.id, &node.link.endpoint), &node.link)).collect();
        let usable = self.snapshot.instances.iter().filter(|i| i.status == InstanceStatus::Up);
        let (mut nodes, mut is_anybody_new) = (Vec::new(), false);
        for instance in usable {
            let Some(endpoint) = endpoint(instance) else { continue };
            let link = links.get(&(&instance.id, endpoint)).map(|link| Arc::clone(link));
            let link = link.unwrap_or_else(|| {
                let link = Link::new(endpoint.clone(), Arc::clone(&self.shared));
                // The same name at another place is another process. In a first list all are equally new.
                if !before.is_empty() {
                    link.load.warm_up(now);
                    is_anybody_new = true;
                }
                link
            });
            nodes.push(Node { instance: Arc::clone(instance), link });
        }
        if is_anybody_new && !self.options.slow_start.window.is_zero() {
            self.warm_at = now.checked_add(self.options.slow_start.window);
        }
        self.arrange(nodes, now);
        let nodes = self.current.load_full();
        self.note(&nodes, now);
        self.built.send_replace(self.snapshot.revision);
    }

    fn arrange(&self, nodes: Vec<Node>, now: Instant) {
        let index = Index::build(nodes, &self.options, Some(&self.current.load()), now);
        let mut inside = vec![false; index.len()];
        for position in index.pools().flat_map(|pool| pool.subset()) {
            inside[*position as usize] = true;
        }
        for (node, inside) in index.iter().zip(inside) {
            node.link.set_inside(inside);
        }
        self.current.store(Arc::new(index));
    }

    /// Tells what has become of instances. Whether anything has.
    fn note(&mut self, nodes: &[Node], now: Instant) -> bool {
        let mut counts = InstanceCounts::default();
        let mut has_changed = false;
        for node in nodes {
            let health = node.link.load.health();
            let state = match (health.is_on_probation(), health.is_ejected()) {
                (true, _) => PROBATION,
                (false, true) => EJECTED,
                (false, false) => HEALTHY,
            };
            match state {
                _ if !node.is_live() => counts.dead += 1,
                PROBATION => counts.probation += 1,
                EJECTED => counts.ejected += 1,
                _ => counts.healthy += 1,
            }
            let before = node.link.note(state);
            if before != state {
                has_changed = true;
                if state == PROBATION {
                    self.probe_at = self.probe_at.max(now + HEAD_START);
                }
            }
            self.tell(node, before, state);
        }
        self.shared.metrics.instances(counts);
        has_changed
    }

    fn tell(&self, node: &Node, before: u8, state: u8) {
        let (instance, times) = (&node.instance.id, node.link.load.health().times_ejected());
        match (before, state) {
            (HEALTHY, EJECTED) => {
                self.shared.metrics.ejected();
                tracing::warn!(%instance, times, "an instance fails and is ejected for a time");
            }
            (PROBATION, EJECTED) => {
                self.shared.metrics.ejected();
                tracing::debug!(%instance, times, "an instance still fails, and is ejected for longer");
            }
            (EJECTED | PROBATION, HEALTHY) => {
                tracing::info!(%instance, "an ejected instance is well again and gets requests");
            }
            _ => {}
        }
    }

    /// Whether there is anybody of whom nobody else tells how it is.
    fn wants_probes(&self, nodes: &[Node]) -> bool {
        let balance = &self.shared.options.balance;
        let speaks_grpc = self.shared.options.http == crate::HttpVersion::Http2;
        balance.probes.is_some() && speaks_grpc && (self.is_stale() || nodes.iter().any(is_on_probation))
    }

    fn is_stale(&self) -> bool {
        matches!(self.snapshot.state, State::Stale { .. } | State::Disk { .. })
    }

    fn probe(&mut self, now: Instant) {
        let nodes = self.current.load_full();
        let Some(probes) = &self.shared.options.balance.probes else { return };
        if now < self.probe_at || !self.wants_probes(&nodes) {
            return;
        }
        // Often enough that those who were not heard from are asked soon after that.
        let pause = (probes.quiet / 100).clamp(Duration::from_millis(10), Duration::from_millis(100));
        self.probe_at = now + pause;
        let is_stale = self.is_stale();
        let is_unconfirmed = |node: &Node| is_stale && node.link.is_inside();
        for position in probes.due(&nodes, is_unconfirmed, self.probing.load(Ordering::Acquire), now) {
            let counted = Counted::enter(&self.probing);
            self.shared.tasks.spawn(probe(nodes[position].clone(), Arc::clone(&self.shared), counted));
        }
    }
}

const HEALTHY: u8 = 0;
const EJECTED: u8 = 1;
const PROBATION: u8 = 2;

fn is_on_probation(node: &Node) -> bool {
    node.link.load.health().is_on_probation() && node.is_live()
}

fn endpoint(instance: &Instance) -> Option<&Endpoint> {
    let first = instance.endpoints.first();
    if first.is_none() {
        tracing::warn!(instance = %instance.id, "an instance without endpoints is left out");
    }
    first
}

/// Waits for another slot; for ever where there is none to wait for.
async fn changed(slot: &mut Option<watch::Receiver<Option<u32>>>) {
    let is_over = match slot {
        None => true,
        Some(slot) => slot.changed().await.is_err(),
    };
    if is_over {
        std::future::pending::<()>().await;
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
