//! The nodes, the clients, and everything between them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bowline_core::{Instant, Rng, SeededRng};
use bowline_registry::peers::api::SyncMessage;
use bowline_registry::peers::node_number;
use bowline_registry::store::{Owner, ServiceKey};
use bowline_registry_bowline::api::bowline::registry::v1::registry_error;

use super::client::{Client, Phase, Request, Response};
use super::events::{Event, Events};
use super::faults::Fault;
use super::network::Network;
use super::node::Node;
use super::operators::Operators;
use super::persistent::Persistent;
use super::plan::Plan;
use super::sums::{Reached, Sums};

const TICK: Duration = Duration::from_millis(250);
/// How soon after the last mend all nodes have to be equal.
const EQUAL_WITHIN: Duration = Duration::from_secs(5);
/// Who is to come has come by then.
const SETTLED: Duration = Duration::from_secs(60);
/// How often it is looked what nodes know of overrides.
const LOOK_AT_OVERRIDES: Duration = Duration::from_secs(1);
/// How often operators end all protections before those are taken for endless.
const ENDINGS: usize = 5;
const SERVICES: usize = 10;
const CLIENTS: usize = 200;
pub(super) const ZONES: usize = 2;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) ends: [usize; 2],
    pub(super) lives: [u64; 2],
    pub(super) heard: [Instant; 2],
    pub(super) ways: [VecDeque<(Instant, SyncMessage)>; 2],
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) zone: usize,
    /// `None` while it is down.
    pub(super) node: Option<Node>,
    /// Until when it stands still.
    pub(super) paused: Instant,
    /// What it finds when it goes on.
    pub(super) waiting: Vec<Event>,
    /// How far its wall clock is off, in seconds.
    pub(super) skew: i64,
    /// When something last broke or was mended that matters for what it knows.
    pub(super) disturbed: Instant,
}

pub(super) struct World {
    pub(super) rng: SeededRng,
    pub(super) plan: Plan,
    pub(super) operators: Operators,
    looked_at_overrides: Instant,
    pub(super) start: Instant,
    pub(super) events: Events,
    pub(super) network: Network,
    pub(super) hosts: Vec<Host>,
    pub(super) clients: Vec<Client>,
    pub(super) persistent: Vec<Persistent>,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) next_stream: u64,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) next_fault: u64,
    pub(super) healed: bool,
    pub(super) processes: u64,
    pub(super) verbose: bool,
    pub(super) sums: Sums,
}

pub(super) type Checked = Result<(), String>;

impl World {
    pub(super) fn new(seed: u64, verbose: bool) -> Self {
        let rng = SeededRng::new(seed);
        let start = Instant::now() + Duration::from_secs(1_000_000);
        let plan = Plan::draw(&rng);
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
            plan,
            operators: Operators::default(),
            looked_at_overrides: start,
            start,
            events: Events::new(start),
            network: Network::new(nodes + ZONES),
            clients: Vec::new(),
            persistent: Vec::new(),
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
        world.events.after(Duration::from_secs(30), Event::Operators);
        world.events.after(Duration::from_secs(10), Event::Persist);
        world.tell(|| format!("{:?}", world.plan));
        world
    }

    pub(super) fn now(&self) -> Instant {
        self.events.now
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        #[allow(clippy::print_stdout, reason = "asked for")]
        if self.verbose {
            println!("{:>9.3} {}", (self.now() - self.start).as_secs_f64(), what());
        }
    }

    /// Where a client's messages go to and come from.
    pub(super) fn site(&self, client: usize) -> usize {
        self.hosts.len() + self.clients[client].zone
    }

    pub(super) fn run(mut self) -> Result<Sums, String> {
        let end = self.start + Duration::from_secs(40) + self.plan.breaks_for;
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
        self.check_contents()?;
        self.settle()?;
        self.check_end(false)?;
        self.end_protections()?;
        self.check_end(true)?;
        self.check_served()?;
        self.check_persistent()?;
        self.sums.events = self.events.count();
        Ok(self.sums)
    }

    /// Everything that went is out by then: a lease, a sweep, and where the window is short what lost nodes left behind.
    fn settle(&mut self) -> Checked {
        self.run_until(self.now() + (self.plan.longest_ttl() * 2).max(SETTLED))?;
        if self.plan.sees_orphans_go {
            self.run_until(self.now() + self.plan.config.partition_window)?;
            // A sweep takes at least one of each service, and there are as many as clients.
            let most = self.plan.sweep_every * 40;
            let until = self.now() + most;
            while self.nodes().any(|n| n.store.orphans() > 0) {
                if self.now() >= until {
                    return Err(format!(
                        "lost nodes' instances are still there {most:?} after the window: {}",
                        self.orphans()
                    ));
                }
                self.run_until(self.now() + self.plan.sweep_every)?;
            }
        }
        // Something may be on its way at that very moment.
        let until = self.now() + EQUAL_WITHIN;
        while !self.is_equal() && self.now() < until {
            self.run_until(self.now() + Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Operators end what is protected, and whoever is overdue goes then.
    fn end_protections(&mut self) -> Checked {
        for _ in 0..ENDINGS {
            let mut ended = 0;
            for n in 0..self.hosts.len() {
                let now = self.now();
                let Some(node) = &mut self.hosts[n].node else { continue };
                for protected in node.store.protected() {
                    node.store.end_protection(&protected.key, &protected.zone, now);
                    node.protected.remove(&(protected.key, protected.zone));
                    ended += 1;
                }
                self.look(n)?;
                self.pump(n);
            }
            self.sums.reach(Reached::ProtectionEndedByHand, ended);
            if ended == 0 {
                return Ok(());
            }
            // Who was refused because a dead one was held comes back within 10 s.
            self.run_until(self.now() + self.plan.longest_ttl() + Duration::from_secs(12))?;
            self.settle()?;
        }
        Err(format!(
            "protected again and again: {:?}",
            self.nodes().map(|n| n.store.protected()).collect::<Vec<_>>()
        ))
    }

    pub(super) fn run_until(&mut self, end: Instant) -> Checked {
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
            Event::Request { node, .. } | Event::Wish { node, .. } | Event::Persistent { node, .. } => {
                Some(*node)
            }
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
                    let back = node.hear(beats, self.plan.remembered(), now);
                    self.sums.reach(Reached::BackAfterLong, back);
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
                self.answered(client, number, node, response, nodes, now)?;
                self.wake(client);
                Ok(())
            }
            Event::Work => self.work(),
            Event::Operators => {
                self.operate();
                Ok(())
            }
            Event::Wish { node, of, wish } => self.wished(node, of, wish),
            Event::Persist => {
                self.persist();
                Ok(())
            }
            Event::Persistent { node, number, asked } => self.persistent(node, number, asked),
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

    pub(super) fn boot(&mut self, n: usize) {
        let now = self.now();
        let since_start = now.saturating_duration_since(self.start).as_micros() as i64;
        let wall = 1_700_000_000_000_000 + since_start + self.hosts[n].skew * 1_000_000;
        let life = ((wall as u64) << 12) | (self.rng.next_u64() & 0xfff);
        let owner = Owner { node: node_number(&self.hosts[n].name), life };
        let zone = format!("z{}", self.hosts[n].zone);
        self.hosts[n].node = Some(Node::boot(&self.plan, owner, &zone, now));
        self.events.after(self.rng.jitter(TICK), Event::Tick(n, life));
        self.disturb();
        self.sums.boots += 1;
        self.tell(|| format!("node {n} starts as {owner:?}"));
    }

    fn tick(&mut self, n: usize, life: u64) -> Checked {
        let now = self.now();
        let node = self.hosts[n].node.as_mut().filter(|node| node.own.owner.life == life);
        let Some(node) = node else { return Ok(()) };
        self.events.after(TICK, Event::Tick(n, life));
        let beats = node.tick((&self.plan, TICK), &self.rng, &mut self.sums, now);
        let beats = beats.map_err(|e| format!("node {n}: {e}"))?;
        node.probe(!self.healed, &self.rng, &mut self.sums, now);
        for other in (0..self.hosts.len()).filter(|other| *other != n) {
            if let Some(delay) = self.network.send(n, other, &self.rng) {
                self.events.after(delay, Event::Beats(other, beats.clone()));
            }
        }
        self.tend(n);
        self.look(n)?;
        self.pump(n);
        if self.looked_at_overrides + LOOK_AT_OVERRIDES <= now {
            self.looked_at_overrides = now;
            (0..self.hosts.len()).try_for_each(|n| self.check_overrides(n))?;
        }
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
        let late = self.plan.sync_within + Duration::from_secs(1);
        let was_awake = self.hosts[n].paused + Duration::from_secs(1) < now;
        let (is_apart, cancels) = (self.is_apart(), matches!(request, Request::Deregister { .. }));
        let response = match &mut self.hosts[n].node {
            Some(node) if node.ready => {
                let is_alone = node.tended.topology.live.is_empty();
                let response = answer(node, request, now)?;
                let serves = matches!(response, Response::Granted(_) | Response::Renewed);
                self.sums.reach(Reached::ServedAlone, usize::from(is_alone && serves));
                self.sums.reach(Reached::CancelledApart, usize::from(is_apart && cancels));
                self.sums.reach(Reached::Refused, usize::from(response == Response::Taken));
                response
            }
            Some(node) if was_awake && node.booted + late < now => {
                return Err(format!("node {n} is not ready {:?} after its start", now - node.booted));
            }
            // Its machine is there: the connection is refused.
            _ => Response::Unavailable,
        };
        self.tell(|| {
            let client = &self.clients[client];
            let has = self.hosts[n].node.as_ref().and_then(|n| n.store.version(&client.of()));
            let known = self.hosts[n].node.as_ref().and_then(|n| n.store.instance(&client.key, &client.id));
            let known = known.map(|k| (k.sequence, k.record.instance().version.clone()));
            let (id, holder, content) = (&client.id, &client.holder, client.content);
            format!(
                "node {n}: {id} of {holder} ({content}) asks ({number}): {response:?}, now {has:?} {known:?}"
            )
        });
        if let Some(delay) = self.network.send(n, self.site(client), &self.rng) {
            self.events.after(delay, Event::Response { node: n, client, number, response });
        }
        self.look(n)?;
        self.pump(n);
        Ok(())
    }

    fn answered(
        &mut self,
        client: usize,
        number: u64,
        from: usize,
        response: Response,
        nodes: usize,
        now: Instant,
    ) -> Checked {
        let is_apart = self.is_apart();
        let client = &mut self.clients[client];
        let last = client.renewed.map(|(node, _)| node);
        let before = client.before;
        client.answered(number, from, response, nodes, &self.rng, now)?;
        let node = client.renewed.map(|(node, _)| node);
        if last.is_some() && node != last {
            self.sums.reach(Reached::Moved, 1);
            self.sums.reach(Reached::MovedBackApart, usize::from(is_apart && node == before));
        }
        Ok(())
    }

    fn start_client(&mut self, id: String, service: usize, within: Duration) {
        self.processes += 1;
        let key = ServiceKey::new("", "", &format!("s{service}")).unwrap_or_else(|_| unreachable!());
        let (zone, node) = (self.rng.below(ZONES), self.rng.below(self.hosts.len()));
        let at = self.now() + self.rng.jitter(within);
        let (holder, ttl) = (format!("p{}", self.processes), self.plan.ttl(&self.rng));
        self.clients.push(Client::start(key, id.into(), holder, (zone, node), ttl, at));
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
        let moves = if self.is_apart() { 8 } else { 1 };
        let (what, to) = (self.rng.below(10 + moves), self.rng.below(self.hosts.len()));
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
            10.. => {
                client.turn_to(to, now);
                self.rouse(chosen);
            }
            _ => {
                client.phase = Phase::Crashed;
                self.start_client(next, service, Duration::from_secs(45));
            }
        }
        Ok(())
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.hosts.iter().filter_map(|h| h.node.as_ref())
    }
}

fn answer(node: &mut Node, request: Request, now: Instant) -> Result<Response, String> {
    match request {
        Request::Register(asked) => match node.store.register(asked, now) {
            Ok(granted) => Ok(Response::Granted(granted.lease)),
            Err(e) if registry_error::is_instance_taken(&e) => Ok(Response::Taken),
            Err(e) if registry_error::is_registration_cancelled(&e) => Ok(Response::Cancelled),
            Err(e) => Err(format!("a registration was refused: {e}")),
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
