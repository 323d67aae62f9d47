//! Whose request goes where. Thousands of random deployments are in `tests/simulation`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline_balance::{
    Ask, Candidate, Ejection, Index, IndexOptions, Load, Outcome, P2c, REDIRECTS, Request, WeightedRandom,
};
use bowline_core::{Clock, Context, Error, Instance, ManualClock, Metadata, SeededRng, Tenant};
use support::{Node, nodes};

#[test]
fn an_unroutable_tenant_is_told_so() {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(1));
    let index = Index::build(nodes(3), &IndexOptions::default(), None, clock.now());
    let tenant = Tenant::new("alice").unwrap();
    let error = index.pick(&P2c, &Request::of(&tenant).strictly(), &Ask::new(clock.now(), &rng)).unwrap_err();
    let error = Error::from(error);
    assert_eq!(error.reason(), "TENANT_UNROUTABLE");
    assert!(error.message().contains("`alice`") && error.message().contains("`catalog`"), "{error}");
}

#[test]
fn redirects_travel_with_the_context() {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(1));
    let all =
        [nodes(3), vec![Node::new("blue-1").tenant("blue"), Node::new("blue-2").tenant("blue")]].concat();
    let index = Index::build(all, &IndexOptions::default(), None, clock.now());
    let pick = |cx: &Context| {
        let ask = Ask::new(clock.now(), &rng);
        index[index.pick(&P2c, &Request::in_context(cx), &ask).unwrap().unwrap()].instance.id.to_string()
    };
    let mut metadata = Metadata::default();
    metadata.insert(REDIRECTS, "orders=green, catalog=@blue-2").unwrap();
    let alice = Tenant::new("alice").unwrap();
    let (inbound, _canceller) = Context::builder().metadata(metadata).tenant(alice.clone()).build();
    assert_eq!(pick(&inbound), "blue-2");
    let own = Context::background().with_tenant(alice).with_metadata(REDIRECTS, "catalog=blue").unwrap();
    assert!((0..50).all(|_| pick(&own).starts_with("blue")));
    // The same header in a request of production says nothing.
    let base = own.with_tenant(Tenant::base());
    assert!((0..50).all(|_| pick(&base).starts_with("node")));
    index[4].live.store(false, Ordering::Relaxed);
    assert!(pick(&inbound).starts_with("node"), "what it was sent to is gone: the base serves");
}

#[test]
fn there_is_somebody_untried_just_if_a_pick_gives_one() {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(1));
    let all = [nodes(2), vec![Node::new("none").weight(0), Node::new("gone").dead()]].concat();
    let index = Index::build(
        [all, vec![Node::new("blue").tenant("blue")]].concat(),
        &IndexOptions::default(),
        None,
        clock.now(),
    );
    let (red, blue) = (Tenant::new("red").unwrap(), Tenant::new("blue").unwrap());
    let at_blue = Request::of(&red).with_redirects("catalog=@blue");
    let requests = [
        (Request::base(), vec![0, 1]),
        (Request::of(&red), vec![0, 1]),
        (Request::of(&blue), vec![4, 0, 1]),
        (Request::of(&blue).strictly(), vec![4]),
        (Request::of(&red).strictly(), vec![]),
        (at_blue, vec![4, 0, 1]),
        (at_blue.strictly(), vec![4]),
    ];
    for (request, able) in requests {
        for tried in 0..=able.len() {
            let ask = Ask::new(clock.now(), &rng).without(&able[..tried]);
            assert_eq!(index.has_untried(&request, &ask), tried < able.len(), "{request:?} {tried}");
            let picked = index.pick(&P2c, &request, &ask).ok().flatten();
            let untried = picked.is_some_and(|picked| !able[..tried].contains(&picked));
            assert_eq!(untried, tried < able.len(), "{request:?} {tried} {picked:?}");
        }
    }
}

#[test]
fn the_only_instance_of_a_tenant_comes_back_after_its_ejection() {
    let (clock, rng, rules) = (ManualClock::new(), SeededRng::new(1), Ejection::default());
    let all = [nodes(9), vec![Node::new("blue").tenant("blue")]].concat();
    let index = Index::build(all, &IndexOptions::default(), None, clock.now());
    let blue = Tenant::new("blue").unwrap();
    let pick =
        || index.pick(&WeightedRandom, &Request::of(&blue), &Ask::new(clock.now(), &rng)).unwrap().unwrap();
    for _ in 0..5 {
        assert_eq!(pick(), 9);
        index[9].load.begin().end(Outcome::Failed, Duration::ZERO, clock.now());
    }
    rules.look(&index, clock.now());
    assert!((0..100).all(|_| pick() < 9), "the base serves meanwhile");
    clock.advance(Duration::from_secs(30));
    rules.sweep(&index, clock.now());
    assert_eq!(pick(), 9, "the first one tries it");
    assert!((0..100).all(|_| pick() < 9), "and no second one");
    index[9].load.begin().answered(Duration::ZERO, clock.now());
    assert!((0..100).all(|_| pick() == 9));
}

/// A candidate that counts how often it is looked at.
#[derive(Clone)]
struct Watched(Node, Arc<AtomicUsize>);

impl Candidate for Watched {
    fn instance(&self) -> &Instance {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.instance()
    }

    fn load(&self) -> &Load {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.load()
    }

    fn is_live(&self) -> bool {
        self.0.is_live()
    }
}

#[test]
fn a_pick_looks_at_as_many_instances_with_a_thousand_tenants_as_with_one() {
    let clock = ManualClock::new();
    let looks = |tenants: usize| {
        let count = Arc::new(AtomicUsize::new(0));
        let mut all = nodes(20);
        all.extend((0..tenants).map(|i| Node::new(format!("t-{i}")).tenant(&format!("tenant-{i}"))));
        let all = all.into_iter().map(|node| Watched(node, Arc::clone(&count))).collect();
        let index = Index::build(all, &IndexOptions::default(), None, clock.now());
        let tenant = Tenant::new("tenant-0").unwrap();
        let rng = SeededRng::new(1);
        count.store(0, Ordering::Relaxed);
        for _ in 0..1_000 {
            for request in [Request::base(), Request::of(&tenant)] {
                assert!(index.pick(&P2c, &request, &Ask::new(clock.now(), &rng)).unwrap().is_some());
            }
        }
        count.load(Ordering::Relaxed)
    };
    assert_eq!(looks(1), looks(1_000));
}
