//! The nodes, the clients, and everything between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Code, Instant, Rng, SeededRng};
use bowline_registry::Config;
use bowline_registry::peers::api::SyncMessage;
use bowline_registry::peers::node_number;
use bowline_registry::store::{Owner, ServiceKey};
use bowline_registry_bowline::api::bowline::registry::v1::{RemovalReason, registry_error};

use super::Sums;
use super::client::{Client, Phase, Request, Response, TTL};
use super::events::{Event, Events};
use super::faults::{self, Fault};
use super::network::Network;
use super::node::{Node, Seen};

const TICK: Duration = Duration::from_millis(250);
/// How long things break.
const FAULTS: Duration = Duration::from_secs(150);
/// How soon after the last mend all nodes have to be equal.
const EQUAL_WITHIN: Duration = Duration::from_secs(5);
/// Everything that went is out by then: a lease, and a sweep.
const SETTLED: Duration = Duration::from_secs(60);
/// How long two nodes that reach each other may take to find it out, some way round whatever else is broken: a silence, a
/// call that nobody takes, and another one.
const CALM: Duration = Duration::from_secs(10);
/// Silence after which a stream counts as broken.
const SILENT: Duration = Duration::from_secs(5);
const SERVICES: usize = 10;
const CLIENTS: usize = 200;
const ZONES: usize = 2;

#[derive(Debug)]
struct Stream {
    ends: [usize; 2],
    lives: [u64; 2],
    heard: [Instant; 2],
    ways: [VecDeque<(Instant, SyncMessage)>; 2],
}

#[derive(Debug)]
struct Host {
    name: String,
    zone: usize,
    /// `None` while it is down.
    node: Option<Node>,
    /// Until when it stands still.
    paused: Instant,
    /// What it finds when it goes on.
    waiting: Vec<Event>,
    /// How far its wall clock is off, in seconds.
    skew: i64,
    /// When something last broke or was mended that matters for what it knows.
    disturbed: Instant,
}

pub(super) struct World {
    rng: SeededRng,
    config: Config,
    start: Instant,
    events: Events,
    network: Network,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    streams: BTreeMap<u64, Stream>,
    next_stream: u64,
    faults: BTreeMap<u64, Fault>,
    next_fault: u64,
    healed: bool,
    processes: u64,
    verbose: bool,
    pub(super) sums: Sums,
}

type Checked = Result<(), String>;

impl World {
    pub(super) fn new(seed: u64, verbose: bool) -> Self {
        let rng = SeededRng::new(seed);
        let start = Instant::now() + Duration::from_secs(1_000_000);
        let nodes = 3 + rng.below(3);
        let hosts = (0..nodes).map(|n| Host {
            name: format!("node-{n}"),
            zone: n % ZONES,
            node: None,
            paused: start,
            waiting: Vec::new(),
            skew: 0,
            disturbed: start,
        });
        let mut world = Self {
            hosts: hosts.collect(),
            config: Config::default(),
            start,
            events: Events::new(start),
            network: Network::new(nodes + ZONES),
            clients: Vec::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            faults: BTreeMap::new(),
            next_fault: 0,
            healed: false,
            processes: 0,
            verbose,
            sums: Sums::default(),
            rng,
        };
        for n in 0..nodes {
            world.boot(n);
        }
        for n in 0..CLIENTS {
            world.start_client(format!("i{n}"), n % SERVICES, Duration::from_secs(20));
        }
        world.events.after(Duration::from_secs(20), Event::Work);
        world.events.after(Duration::from_secs(40), Event::Break);
        world
    }

    fn now(&self) -> Instant {
        self.events.now
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        #[allow(clippy::print_stdout, reason = "asked for")]
        if self.verbose {
            println!("{:>9.3} {}", (self.now() - self.start).as_secs_f64(), what());
        }
    }

    /// Where a client's messages go to and come from.
    fn site(&self, client: usize) -> usize {
        self.hosts.len() + self.clients[client].zone
    }

    pub(super) fn run(mut self) -> Result<Sums, String> {
        let end = self.start + Duration::from_secs(40) + FAULTS;
        self.run_until(end)?;
        self.heal();
        let healed = self.now();
        while !self.is_equal() {
            if self.now() >= healed + EQUAL_WITHIN {
                return Err(format!(
                    "not equal {EQUAL_WITHIN:?} after the last mend: {}; {}",
                    self.differences(),
                    self.links()
                ));
            }
            self.run_until(self.now() + Duration::from_millis(20))?;
        }
        self.sums.slowest_equal = self.now() - healed;
        self.run_until(healed + SETTLED)?;
        self.check_end()?;
        self.sums.events = self.events.count();
        Ok(self.sums)
    }

    fn run_until(&mut self, end: Instant) -> Checked {
        while self.events.due().is_some_and(|due| due <= end) {
            let Some(event) = self.events.next() else { break };
            let what = self.verbose.then(|| format!("{event:?}"));
            self.happen(event).map_err(|why| {
                let at = (self.now() - self.start).as_secs_f64();
                format!("after {at:.3} s: {why}{}", what.map(|w| format!(" ({w})")).unwrap_or_default())
            })?;
        }
        self.events.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Checked {
        // A node that stands still finds it all when it goes on.
        let paused = match &event {
            Event::Tick(n, _) | Event::Beats(n, _) | Event::Reset(_, n) => Some(*n),
            Event::Request { node, .. } => Some(*node),
            Event::Arrive(stream, way) => self.streams.get(stream).map(|s| s.ends[1 - way]),
            _ => None,
        };
        if let Some(paused) = paused
            && self.hosts[paused].paused > self.now()
        {
            self.hosts[paused].waiting.push(event);
            return Ok(());
        }
        match event {
            Event::Tick(n, life) => self.tick(n, life),
            Event::Beats(n, beats) => {
                let now = self.now();
                if let Some(node) = &mut self.hosts[n].node {
                    node.hear(beats, now);
                }
                Ok(())
            }
            Event::Open(stream) => self.open(stream),
            Event::Arrive(stream, way) => self.arrive(stream, way),
            Event::Reset(stream, n) => {
                self.close(stream, n);
                Ok(())
            }
            Event::Wake(client, timer) => {
                if self.clients[client].timers == timer {
                    self.wake(client);
                }
                Ok(())
            }
            Event::Request { node, client, number, request } => self.request(node, client, number, request),
            Event::Response { node, client, number, response } => {
                let (now, nodes) = (self.now(), self.hosts.len());
                self.clients[client].answered(number, node, response, nodes, &self.rng, now)?;
                self.wake(client);
                Ok(())
            }
            Event::Work => self.work(),
            Event::Break => {
                self.break_something();
                Ok(())
            }
            Event::Mend(fault) => {
                self.mend(fault);
                Ok(())
            }
            Event::Resume(n) => {
                self.resume(n);
                Ok(())
            }
            Event::Boot(n) => {
                if self.hosts[n].node.is_none() {
                    self.boot(n);
                }
                Ok(())
            }
        }
    }

    fn boot(&mut self, n: usize) {
        let now = self.now();
        let since_start = now.saturating_duration_since(self.start).as_micros() as i64;
        let wall = 1_700_000_000_000_000 + since_start + self.hosts[n].skew * 1_000_000;
        let life = ((wall as u64) << 12) | (self.rng.next_u64() & 0xfff);
        let owner = Owner { node: node_number(&self.hosts[n].name), life };
        let zone = format!("z{}", self.hosts[n].zone);
        self.hosts[n].node = Some(Node::boot(&self.config, owner, &zone, now));
        self.events.after(self.rng.jitter(TICK), Event::Tick(n, life));
        self.disturb();
        self.sums.boots += 1;
        self.tell(|| format!("node {n} starts as {owner:?}"));
    }

    /// Something changed about who reaches whom.
    fn disturb(&mut self) {
        let now = self.now();
        self.hosts.iter_mut().for_each(|h| h.disturbed = now.max(h.paused));
    }

    fn tick(&mut self, n: usize, life: u64) -> Checked {
        let now = self.now();
        let node = self.hosts[n].node.as_mut().filter(|node| node.own.owner.life == life);
        let Some(node) = node else { return Ok(()) };
        self.events.after(TICK, Event::Tick(n, life));
        let beats = node.tick(TICK, &self.rng, now);
        for other in (0..self.hosts.len()).filter(|other| *other != n) {
            if let Some(delay) = self.network.send(n, other, &self.rng) {
                self.events.after(delay, Event::Beats(other, beats.clone()));
            }
        }
        self.tend(n);
        self.look(n)?;
        self.pump(n);
        Ok(())
    }

    /// Ends streams that are silent or of no use, and opens those that are missing.
    fn tend(&mut self, n: usize) {
        let now = self.now();
        let Some(node) = &self.hosts[n].node else { return };
        let (life, tended) = (node.own.owner.life, node.tended.clone());
        for (stream, id) in node.streams.clone() {
            let Some(s) = self.streams.get(&stream) else { continue };
            let side = usize::from(s.ends[1] == n);
            if tended.close.contains(&id) || s.heard[side] + SILENT <= now {
                self.close(stream, n);
            }
        }
        for other in tended.call {
            let Some(to) = self.hosts.iter().position(|h| node_number(&h.name) == other) else { continue };
            let there = self.network.send(n, to, &self.rng);
            let (Some(there), Some(back)) = (there, self.network.send(to, n, &self.rng)) else { continue };
            let other = self.hosts[to].node.as_ref().filter(|_| self.hosts[to].paused <= now);
            if let Some(other) = other {
                self.next_stream += 1;
                let stream = Stream {
                    ends: [n, to],
                    lives: [life, other.own.owner.life],
                    heard: [now; 2],
                    ways: Default::default(),
                };
                self.streams.insert(self.next_stream, stream);
                self.events.after(there + back, Event::Open(self.next_stream));
            }
        }
    }

    fn open(&mut self, stream: u64) -> Checked {
        let now = self.now();
        let Some(s) = self.streams.get_mut(&stream) else { return Ok(()) };
        s.heard = [now; 2];
        let (ends, lives) = (s.ends, s.lives);
        let is_there = |side: usize| {
            let node = self.hosts[ends[side]].node.as_ref();
            node.is_some_and(|node| node.own.owner.life == lives[side])
        };
        if !is_there(0) || !is_there(1) {
            self.streams.remove(&stream);
            return Ok(());
        }
        for side in 0..2 {
            let (n, other) = (ends[side], ends[1 - side]);
            let Some(node) = &self.hosts[n].node else { continue };
            // One stream to a node: the newest.
            let same = |old: &&u64| self.streams.get(old).is_some_and(|s| s.ends.contains(&other));
            let old: Vec<u64> = node.streams.keys().filter(same).copied().collect();
            for old in old {
                self.close(old, n);
            }
            let near = self.hosts[n].zone == self.hosts[other].zone;
            let number = node_number(&self.hosts[other].name);
            if let Some(node) = &mut self.hosts[n].node {
                let id = node.peers.open(number, near, side == 0, &node.store, now);
                node.streams.insert(stream, id);
            }
        }
        self.pump(ends[0]);
        self.pump(ends[1]);
        Ok(())
    }

    /// A node ends its side of a stream; the other one hears of it, if it can.
    fn close(&mut self, stream: u64, n: usize) {
        if let Some(node) = &mut self.hosts[n].node
            && let Some(id) = node.streams.remove(&stream)
        {
            node.peers.close(id);
        }
        let Some(s) = self.streams.get(&stream) else { return };
        let other = if s.ends[0] == n { s.ends[1] } else { s.ends[0] };
        let there = self.hosts[other].node.as_ref().is_some_and(|node| node.streams.contains_key(&stream));
        if !there {
            self.streams.remove(&stream);
        } else if let Some(delay) = self.network.send(n, other, &self.rng) {
            self.events.after(delay, Event::Reset(stream, other));
        }
    }

    /// Puts on the way what a node has to say.
    fn pump(&mut self, n: usize) {
        let now = self.now();
        let Some(node) = &mut self.hosts[n].node else { return };
        let said = node.store.take_said();
        node.peers.say(&said);
        for (stream, id) in node.streams.clone() {
            let Some(s) = self.streams.get_mut(&stream) else { continue };
            let way = usize::from(s.ends[1] == n);
            while let Some(message) = node.peers.poll(id, &node.store, now) {
                self.sums.messages += 1;
                let delay = self.network.stream(n, s.ends[1 - way], &self.rng);
                let at = now + delay.unwrap_or(Duration::from_millis(200));
                let at = s.ways[way].back().map_or(at, |(last, _)| at.max(*last));
                s.ways[way].push_back((at, message));
                self.events.at(at, Event::Arrive(stream, way));
            }
        }
    }

    fn arrive(&mut self, stream: u64, way: usize) -> Checked {
        let now = self.now();
        let Some(s) = self.streams.get_mut(&stream) else { return Ok(()) };
        let (from, to) = (s.ends[way], s.ends[1 - way]);
        if s.ways[way].front().is_none_or(|(at, _)| *at > now) {
            return Ok(());
        }
        if self.network.is_cut(from, to) {
            self.events.after(Duration::from_millis(200), Event::Arrive(stream, way));
            return Ok(());
        }
        let Some((_, message)) = s.ways[way].pop_front() else { return Ok(()) };
        s.heard[1 - way] = now;
        let Some(node) = &mut self.hosts[to].node else { return Ok(()) };
        let Some(id) = node.streams.get(&stream).copied() else { return Ok(()) };
        if self.verbose {
            let what: String = format!("{message:?}").chars().take(300).collect();
            #[allow(clippy::print_stdout, reason = "asked for")]
            {
                println!("{:>9.3} {from} -> {to} ({stream}): {what}", (now - self.start).as_secs_f64());
            }
        }
        let Node { peers, store, .. } = node;
        peers.receive(id, message, store, now).map_err(|e| format!("node {to}: {e}"))?;
        self.look(to)?;
        self.pump(to);
        Ok(())
    }

    fn wake(&mut self, client: usize) {
        let (now, nodes) = (self.now(), self.hosts.len());
        let polled = self.clients[client].poll(nodes, &self.rng, now);
        self.rouse(client);
        let Some((number, request)) = polled else { return };
        let (node, site) = (self.clients[client].node, self.site(client));
        if let Some(delay) = self.network.send(site, node, &self.rng) {
            self.events.after(delay, Event::Request { node, client, number, request });
        }
    }

    /// Sets a client's timer; an earlier one does not count any more.
    fn rouse(&mut self, client: usize) {
        if let Some(next) = self.clients[client].wake() {
            self.clients[client].timers += 1;
            let timer = self.clients[client].timers;
            self.events.at(next, Event::Wake(client, timer));
        }
    }

    fn request(&mut self, n: usize, client: usize, number: u64, request: Request) -> Checked {
        let now = self.now();
        let calm = self.hosts[n].disturbed + CALM < now;
        let response = match &mut self.hosts[n].node {
            Some(node) if node.ready => answer(node, request, now)?,
            Some(node) if calm && node.booted + Duration::from_secs(6) < now => {
                return Err(format!("node {n} is not ready {:?} after its start", now - node.booted));
            }
            // Its machine is there: the connection is refused.
            _ => Response::Unavailable,
        };
        self.tell(|| {
            let client = &self.clients[client];
            let has = self.hosts[n].node.as_ref().and_then(|n| n.store.version(&client.of()));
            format!("node {n}: {} of {} asks ({number}): {response:?}, now {has:?}", client.id, client.holder)
        });
        if let Some(delay) = self.network.send(n, self.site(client), &self.rng) {
            self.events.after(delay, Event::Response { node: n, client, number, response });
        }
        self.look(n)?;
        self.pump(n);
        Ok(())
    }

    /// What those who follow node `n` see now, and whether it may be.
    fn look(&mut self, n: usize) -> Checked {
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
                    if reason == RemovalReason::REMOVAL_REASON_CANCELLED
                        && let Some(node) = &mut self.hosts[n].node
                    {
                        node.cancelled.insert(Arc::clone(&holder));
                    }
                    self.check_gone(n, &id, &holder)?;
                }
            }
        }
        Ok(())
    }

    /// Nobody who lives, and whose node this node reaches, may be gone.
    fn check_gone(&self, n: usize, id: &str, holder: &Arc<str>) -> Checked {
        let now = self.now();
        let Some(client) = self.clients.iter().find(|c| c.holder == *holder) else { return Ok(()) };
        let Some((renewed, at)) = client.renewed else { return Ok(()) };
        if client.phase != Phase::Running || at + TTL <= now {
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

    fn start_client(&mut self, id: String, service: usize, within: Duration) {
        self.processes += 1;
        let key = ServiceKey::new("", "", &format!("s{service}")).unwrap_or_else(|_| unreachable!());
        let (zone, node) = (self.rng.below(ZONES), self.rng.below(self.hosts.len()));
        let at = self.now() + self.rng.jitter(within);
        let holder = format!("p{}", self.processes);
        self.clients.push(Client::start(key, id.into(), holder, zone, node, at));
        self.rouse(self.clients.len() - 1);
    }

    fn work(&mut self) -> Checked {
        if self.healed {
            return Ok(());
        }
        self.events.after(self.rng.jitter(Duration::from_millis(800)), Event::Work);
        let now = self.now();
        let running: Vec<usize> = (0..self.clients.len())
            .filter(|c| self.clients[*c].phase == Phase::Running && self.clients[*c].renewed.is_some())
            .collect();
        let Some(chosen) = running.get(self.rng.below(running.len())).copied() else { return Ok(()) };
        let what = self.rng.below(10);
        let client = &mut self.clients[chosen];
        let service = client.key.service().trim_start_matches('s').parse().unwrap_or(0);
        let id = client.id.to_string();
        let next = if self.rng.below(2) == 0 { id } else { format!("i{}", self.processes + 1) };
        match what {
            0..5 => {
                client.change(now);
                self.rouse(chosen);
            }
            5..8 => {
                client.stop(now);
                self.rouse(chosen);
                self.start_client(next, service, Duration::from_secs(10));
            }
            _ => {
                client.phase = Phase::Crashed;
                self.start_client(next, service, Duration::from_secs(45));
            }
        }
        Ok(())
    }

    fn break_something(&mut self) {
        if self.healed {
            return;
        }
        self.events.after(Duration::from_secs(3) + self.rng.jitter(Duration::from_secs(15)), Event::Break);
        let (nodes, now) = (self.hosts.len(), self.now());
        let (fault, time) = faults::draw(nodes, self.network.places(), &self.rng);
        self.sums.faults += 1;
        self.tell(|| format!("{fault:?} for {time:?}"));
        self.disturb();
        match fault {
            Fault::Partition(_) | Fault::OneWay(..) | Fault::Loss(_) => {
                self.next_fault += 1;
                self.faults.insert(self.next_fault, fault);
                self.apply_faults();
                self.events.after(time, Event::Mend(self.next_fault));
            }
            Fault::Crash(n, down) => self.crash(n, down),
            Fault::CrashAll => {
                for n in 0..nodes {
                    let down = self.rng.jitter(Duration::from_secs(3));
                    self.crash(n, down);
                }
            }
            Fault::Pause(n) => {
                self.hosts[n].paused = self.hosts[n].paused.max(now + time);
                self.events.at(self.hosts[n].paused, Event::Resume(n));
                self.disturb();
            }
            Fault::Clock(n, skew) => self.hosts[n].skew = skew,
        }
    }

    /// A node goes on, if it is time.
    fn resume(&mut self, n: usize) {
        if self.hosts[n].paused <= self.now() {
            for event in std::mem::take(&mut self.hosts[n].waiting) {
                self.events.at(self.events.now, event);
            }
        }
    }

    fn crash(&mut self, n: usize, down: Duration) {
        let Some(node) = self.hosts[n].node.take() else { return };
        self.tell(|| format!("node {n} dies"));
        for stream in node.streams.keys().copied() {
            let Some(s) = self.streams.get(&stream) else { continue };
            let other = if s.ends[0] == n { s.ends[1] } else { s.ends[0] };
            // Its machine says so, or it is gone as well.
            if self.rng.below(3) > 0
                && let Some(delay) = self.network.send(n, other, &self.rng)
            {
                self.events.after(delay, Event::Reset(stream, other));
            }
        }
        self.hosts[n].paused = self.now();
        self.resume(n);
        self.events.after(down, Event::Boot(n));
    }

    fn apply_faults(&mut self) {
        self.network.heal();
        let places = self.network.places();
        for fault in self.faults.values() {
            match fault {
                Fault::Partition(side) => {
                    for (from, to) in (0..places).flat_map(|f| (0..places).map(move |t| (f, t))) {
                        if side.contains(&from) != side.contains(&to) {
                            self.network.cut(from, to);
                        }
                    }
                }
                Fault::OneWay(from, to) => self.network.cut(*from, *to),
                Fault::Loss(share) => self.network.lose(*share),
                _ => {}
            }
        }
    }

    fn mend(&mut self, fault: u64) {
        if self.faults.remove(&fault).is_some() {
            self.apply_faults();
            self.disturb();
            self.tell(|| "something is mended".to_owned());
        }
    }

    fn heal(&mut self) {
        self.healed = true;
        self.faults.clear();
        self.apply_faults();
        let now = self.now();
        for n in 0..self.hosts.len() {
            self.hosts[n].paused = now;
            self.resume(n);
            if self.hosts[n].node.is_none() {
                self.boot(n);
            }
        }
        self.disturb();
        self.tell(|| "all is mended".to_owned());
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.hosts.iter().filter_map(|h| h.node.as_ref())
    }

    fn is_up(&self, owner: Owner) -> bool {
        self.nodes().any(|n| n.own.owner == owner)
    }

    fn is_equal(&self) -> bool {
        let mut roots = self.nodes().map(|n| n.store.root());
        let first = roots.next();
        roots.all(|root| Some(root) == first)
    }

    /// Who has a stream to whom, from whose view.
    fn links(&self) -> String {
        let of = |n: &Node| {
            n.streams.keys().map(|s| (*s, self.streams.get(s).map(|s| s.ends))).collect::<Vec<_>>()
        };
        let all = self
            .hosts
            .iter()
            .map(|h| (&h.name, h.node.as_ref().map(|n| (of(n), &n.tended.topology.neighbours))));
        format!("{:?}", all.collect::<Vec<_>>())
    }

    fn differences(&self) -> String {
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

    /// Everybody who lives is everywhere, as they last said; nobody else is, but who may be protected.
    fn check_end(&self) -> Checked {
        // Of these nobody is taken out, and the dead may hold what the living want.
        let protected: BTreeSet<ServiceKey> =
            self.nodes().flat_map(|n| n.store.protected()).map(|p| p.key).collect();
        if !self.is_equal() {
            return Err(format!("not equal long after the last mend: {}", self.differences()));
        }
        for (n, node) in self.nodes().enumerate() {
            for client in self.clients.iter().filter(|c| !protected.contains(&c.key)) {
                let found = node.store.instance(&client.key, &client.id);
                let found = found.filter(|f| f.holder == client.holder);
                let (id, holder) = (&client.id, &client.holder);
                match (client.phase, found) {
                    (Phase::Running, None) => {
                        let other = self.clients.iter().any(|c| {
                            c.holder != client.holder && c.id == client.id && c.phase == Phase::Running
                        });
                        if !other {
                            return Err(format!("node {n} has not {id} of {holder}, which lives"));
                        }
                    }
                    (Phase::Running, Some(found)) => {
                        let version = found.record.instance().version.clone();
                        if version != client.content.to_string() {
                            let last = client.content;
                            return Err(format!("node {n} has {id} as {version}, and it said {last} last"));
                        }
                    }
                    // A node that died knowing it alone does not count: its word went with it.
                    (Phase::Stopped { confirmed: true }, Some(found)) if self.is_up(found.owner) => {
                        return Err(format!("node {n} has {id} of {holder}, which was cancelled"));
                    }
                    (Phase::Crashed, Some(_)) if node.store.orphans() == 0 => {
                        return Err(format!("node {n} has {id} of {holder}, which is long dead"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn answer(node: &mut Node, request: Request, now: Instant) -> Result<Response, String> {
    match request {
        Request::Register(asked) => match node.store.register(asked, now) {
            Ok(granted) => Ok(Response::Granted(granted.lease)),
            Err(e) if registry_error::is_instance_taken(&e) => Ok(Response::Taken),
            Err(e) if registry_error::is_registration_cancelled(&e) => Ok(Response::Cancelled),
            Err(e) => Err(format!("a registration was refused: {:?} {e}", Code::Internal)),
        },
        Request::Renew(lease) => Ok(match node.store.renew(lease, now) {
            Some(_) => Response::Renewed,
            None => Response::Unknown,
        }),
        Request::Deregister { key, id, holder } => {
            node.store.deregister(&key, &id, &holder, now);
            Ok(Response::Deregistered)
        }
    }
}
