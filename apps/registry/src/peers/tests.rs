//! Two nodes that speak, without sockets.

use std::sync::Arc;

use bowline_registry_bowline::api::bowline::registry::v1::Instance;

use super::api::sync_message::Message;
use super::*;
use crate::Config;
use crate::store::{Owner, Record, Registering, ServiceKey};

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
