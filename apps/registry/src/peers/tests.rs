//! Two nodes that speak, without sockets.

use std::sync::Arc;

use bowline_registry_bowline::api::bowline::registry::v1::{HealthCheck, Instance, TcpProbe};

use super::api::sync_message::Message;
use super::*;
use crate::Config;
use crate::store::{Fact, Owner, Record, Registering, Said, ServiceKey};

const SEC: Duration = Duration::from_secs(1);

fn owner(node: u64) -> Owner {
    Owner { node, life: (1 << 40) + node }
}

fn key() -> ServiceKey {
    ServiceKey::new("", "", "s").unwrap()
}

fn asked(id: &str, bytes: usize) -> Registering {
    let metadata = [("pad".to_owned(), "x".repeat(bytes))].into_iter().collect();
    let instance = Instance { id: id.into(), metadata, ..Default::default() };
    let record = Arc::new(Record::new(instance, &crate::Limits::default()).unwrap());
    Registering { key: key(), record, ttl: None, holder: "h".into(), sequence: 1, only_if_free: false }
}

struct Two {
    stores: [Store; 2],
    peers: [Peers; 2],
    streams: [StreamId; 2],
    now: Instant,
}

impl Two {
    /// Nodes 1 and 2; a third is where each hears of it.
    fn new() -> Self {
        let now = Instant::now();
        let mut stores = [1, 2].map(|n| Store::of(Config::default(), owner(n)));
        stores.iter_mut().for_each(|s| s.set_live([1, 2, 3].map(owner).into(), now));
        let mut two = Self { stores, peers: [Peers::new(), Peers::new()], streams: [0; 2], now };
        for n in 0..2 {
            two.peers[n].set_ready();
            two.streams[n] = two.peers[n].open(2 - n as u64, true, n == 0, &two.stores[n], now);
        }
        two
    }

    /// Both say all they have to. Returns how many facts.
    fn talk(&mut self) -> usize {
        let mut facts = 0;
        loop {
            let mut quiet = true;
            for n in 0..2 {
                while let Some(message) = self.peers[n].poll(self.streams[n], &self.stores[n], self.now) {
                    quiet = false;
                    if let Some(Message::Facts(told)) = &message.message {
                        facts += told.facts.len();
                    }
                    let (to, store) = (1 - n, &mut self.stores[1 - n]);
                    self.peers[to].receive(self.streams[to], message, store, self.now).unwrap();
                }
            }
            if quiet {
                return facts;
            }
        }
    }
}

fn member(node: u64, zone: &str) -> Member {
    Member { owner: owner(node), zone: zone.into(), live: true }
}

#[test]
fn who_only_gossips_keeps_nobody_from_sweeping() {
    let (own, mut peers, start) = (member(10, "a"), Peers::new(), Instant::now());
    let store = Store::of(Config::default(), owner(10));
    // One in each zone, and others come and go all the time. Nobody can speak to them.
    let others = |n: u64| vec![member(1, "a"), member(2, "b"), member(3 + n % 6, "a"), member(11, "b")];
    let sweeps = |peers: &mut Peers, from: u64, to: u64| {
        let look = |n: u64| peers.tend(&own, &others(n), start + SEC / 4 * n as u32).topology.sweeps;
        (from..to).map(look).collect::<Vec<bool>>()
    };
    assert!(sweeps(&mut peers, 0, 12).iter().all(|sweeps| !sweeps), "it may not have met them yet");
    peers.open(11, false, true, &store, start);
    assert!(sweeps(&mut peers, 12, 200).iter().all(|sweeps| *sweeps));
    // One that is spoken to comes first; and for a moment after, for its stream may be back at once.
    let stream = peers.open(2, false, true, &store, start);
    assert!(sweeps(&mut peers, 200, 220).iter().all(|sweeps| !sweeps));
    peers.close(stream);
    assert!(sweeps(&mut peers, 220, 231).iter().all(|sweeps| !sweeps));
    assert!(sweeps(&mut peers, 232, 300).iter().all(|sweeps| *sweeps));
}

#[test]
fn the_version_at_which_a_checked_instance_was_registered_is_told_with_what_became_of_it() {
    let mut two = Two::new();
    let mut registering = asked("a", 0);
    let check = HealthCheck { probe: Some(TcpProbe::default().into()), ..Default::default() };
    let endpoints = vec!["http://10.0.0.1:80".to_owned()];
    let instance = Instance { id: "a".into(), endpoints, check: check.into(), ..Default::default() };
    registering.record = Arc::new(Record::new(instance, &crate::Limits::default()).unwrap());
    two.stores[0].register(registering, two.now).unwrap();
    let of = FactKey { key: key(), id: "a".into(), kind: crate::store::Kind::Instance };
    let registered = two.stores[0].version(&of).unwrap();
    assert!(two.stores[0].set_health(&key(), "a", true, two.now));
    two.peers[0].say(std::slice::from_ref(&of));
    two.talk();
    for store in &two.stores {
        let facts = store.facts(&of, two.now);
        let [Fact { version, said: Said::Here(here), .. }] = &facts[..] else { panic!("{facts:?}") };
        assert!(here.registered == registered && *version > registered, "{facts:?}");
    }
}

#[test]
fn two_nodes_that_disagree_on_who_is_lost_do_not_tell_each_other_the_same_all_the_time() {
    let mut two = Two::new();
    // Both have instances of the third, and the first one loses it.
    let mut third = Store::of(Config::default(), owner(3));
    for n in 0..5 {
        third.register(asked(&format!("i{n}"), 0), two.now).unwrap();
    }
    for of in third.take_said() {
        for store in &mut two.stores {
            third.facts(&of, two.now).into_iter().for_each(|fact| _ = store.hear(fact, two.now));
        }
    }
    two.talk();
    two.stores[0].set_live([owner(2)].into(), two.now);
    two.now += Config::default().partition_window;
    let rng = bowline_core::SeededRng::new(1);
    while two.stores[0].sweep(two.now, &rng) > 0 {}
    let said = two.stores[0].take_said();
    two.peers[0].say(&said);
    two.now += SEC;
    assert!(two.talk() > 0, "it is said once");
    for _ in 0..5 {
        two.now += SEC;
        assert_eq!(two.talk(), 0);
    }
    assert_eq!((two.stores[0].counts().instances, two.stores[1].counts().instances), (0, 5));
    // Once they agree, they are equal: it is back, or lost for both.
    two.stores[0].set_live([owner(2), owner(3)].into(), two.now);
    two.now += 2 * SEC;
    two.talk();
    assert_eq!((two.stores[0].counts().instances, two.stores[1].counts().instances), (5, 5));
}

#[test]
fn a_message_is_as_large_as_the_peer_takes_in_a_moment() {
    let mut two = Two::new();
    for n in 0..400 {
        two.stores[0].register(asked(&format!("i{n}"), 4_000), two.now).unwrap();
    }
    let said = two.stores[0].take_said();
    two.peers[0].say(&said);
    let mut sizes = Vec::new();
    for round in 0..60 {
        let Some(message) = two.peers[0].poll(two.streams[0], &two.stores[0], two.now) else { break };
        if let Some(Message::Facts(told)) = &message.message {
            sizes.push(told.facts.len());
        }
        // At first it is slow, and then quick.
        two.now += if round < 5 { 3 * SEC } else { SEC / 100 };
        two.peers[1].receive(two.streams[1], message, &mut two.stores[1], two.now).unwrap();
        while let Some(answer) = two.peers[1].poll(two.streams[1], &two.stores[1], two.now) {
            two.peers[0].receive(two.streams[0], answer, &mut two.stores[0], two.now).unwrap();
        }
    }
    let least = sizes.iter().min().copied();
    assert!(least.is_some_and(|least| least <= 2), "{sizes:?}");
    assert!(sizes.iter().any(|size| *size > 60), "{sizes:?}");
}
