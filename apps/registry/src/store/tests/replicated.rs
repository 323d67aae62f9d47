//! Stores that tell each other.

use bowline_registry_bowline::api::bowline::registry::v1::{HealthCheck, TcpProbe};

use super::*;
use crate::Limits;

/// Some nodes' stores.
struct Nodes {
    stores: Vec<Store>,
    now: Instant,
}

impl Nodes {
    fn new(count: u64) -> Self {
        let owner = |node| Owner { node, life: (1 << 40) + node };
        let config = Config { protection_threshold: 0, ..Config::default() };
        let mut stores: Vec<_> = (1..=count).map(|n| Store::of(config.clone(), owner(n))).collect();
        let now = Instant::now();
        stores.iter_mut().for_each(|s| s.set_live((1..=count).map(owner).collect(), now));
        Self { stores, now }
    }

    fn register(&mut self, n: usize, asked: Registering) -> Result<Granted> {
        self.stores[n].register(asked, self.now)
    }

    /// What `from` knows of something reaches `to`.
    fn tell(&mut self, from: usize, to: usize, of: &FactKey) {
        for fact in self.stores[from].facts(of, self.now) {
            self.stores[to].hear(fact, self.now);
        }
    }

    /// Everybody tells everybody everything, until nobody has anything new to say.
    fn settle(&mut self, keys: &[FactKey]) {
        for _ in 0..20 {
            self.stores.iter_mut().for_each(|s| drop(s.take_said()));
            let count = self.stores.len();
            for (from, to) in (0..count).flat_map(|f| (0..count).map(move |t| (f, t))) {
                keys.iter().for_each(|of| self.tell(from, to, of));
            }
            if self.stores.iter_mut().all(|s| s.take_said().is_empty()) {
                return;
            }
        }
        panic!("they never come to an end");
    }

    fn holder(&self, n: usize, id: &str) -> Option<String> {
        self.stores[n].instance(&key("s"), id).map(|r| r.holder.to_string())
    }
}

fn of(id: &str) -> FactKey {
    FactKey { key: key("s"), id: id.into(), kind: Kind::Instance }
}

fn by(holder: &str) -> Registering {
    Registering { holder: holder.into(), ..asked("s", "a", "1") }
}

#[test]
fn an_instance_belongs_to_the_node_that_its_holder_spoke_to_last() {
    let mut nodes = Nodes::new(2);
    let first = nodes.register(0, by("h")).unwrap().lease;
    nodes.tell(0, 1, &of("a"));
    nodes.register(1, by("h")).unwrap();
    nodes.tell(1, 0, &of("a"));
    let owner = |nodes: &Nodes, n: usize| nodes.stores[n].version(&of("a")).unwrap().owner.node;
    assert_eq!((owner(&nodes, 0), owner(&nodes, 1)), (2, 2));
    // It moved; its silence at the first node means nothing.
    nodes.now += 5 * SEC;
    assert!(nodes.stores[0].renew(first, nodes.now).is_some(), "unless it comes back");
    assert_eq!(owner(&nodes, 0), 1);
    nodes.tell(0, 1, &of("a"));
    nodes.now += 7 * SEC;
    assert_eq!(nodes.stores[1].expire(nodes.now, 9), 0);
    assert_eq!(owner(&nodes, 1), 1);
}

#[test]
fn what_was_cancelled_anywhere_comes_back_from_nowhere() {
    let mut nodes = Nodes::new(3);
    nodes.register(0, by("h")).unwrap();
    nodes.tell(0, 2, &of("a"));
    // The second node has not heard of it yet, and is told that it is gone.
    assert!(!nodes.stores[1].deregister(&key("s"), "a", "h", nodes.now));
    nodes.tell(2, 1, &of("a"));
    assert_eq!(nodes.holder(1, "a"), None);
    nodes.settle(&[of("a")]);
    assert!((0..3).all(|n| nodes.holder(n, "a").is_none()));
    assert!(nodes.register(0, by("h")).is_err());
    nodes.register(0, by("next life")).unwrap();
    nodes.settle(&[of("a")]);
    assert!((0..3).all(|n| nodes.holder(n, "a").as_deref() == Some("next life")));
}

#[test]
fn an_owner_does_not_believe_that_its_instance_is_gone() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, by("h")).unwrap();
    nodes.tell(0, 1, &of("a"));
    // The other node loses sight of the first for long.
    nodes.stores[1].set_live([].into(), nodes.now);
    nodes.now += Config::default().partition_window;
    let rng = bowline_core::SeededRng::new(1);
    assert_eq!(nodes.stores[1].sweep(nodes.now, &rng), 1);
    assert_eq!(nodes.holder(1, "a"), None);
    nodes.stores[0].paused(Config::default().partition_window, nodes.now);
    // As long as the first is lost nothing brings it back; then all of it comes back.
    nodes.tell(0, 1, &of("a"));
    assert_eq!(nodes.holder(1, "a"), None);
    let back = nodes.stores[0].own();
    nodes.stores[1].set_live([back].into(), nodes.now);
    nodes.tell(0, 1, &of("a"));
    assert_eq!(nodes.holder(1, "a").as_deref(), Some("h"));
    // And if its owner hears of it, it says that it is there, to whoever does not hear of the owner.
    nodes.stores[1].set_live([].into(), nodes.now);
    nodes.now += Config::default().partition_window;
    assert_eq!(nodes.stores[1].sweep(nodes.now, &rng), 1);
    nodes.stores[0].paused(Config::default().partition_window, nodes.now);
    nodes.tell(1, 0, &of("a"));
    assert_eq!(nodes.holder(0, "a").as_deref(), Some("h"));
    nodes.tell(0, 1, &of("a"));
    assert_eq!(nodes.holder(1, "a").as_deref(), Some("h"));
}

#[test]
fn lost_nodes_are_swept_slowly_and_only_after_the_window() {
    let mut nodes = Nodes::new(2);
    for n in 0..20 {
        nodes.register(0, asked("s", &format!("i{n}"), "1")).unwrap();
        nodes.tell(0, 1, &of(&format!("i{n}")));
    }
    nodes.stores[1].set_live([].into(), nodes.now);
    let rng = bowline_core::SeededRng::new(1);
    nodes.now += Config::default().partition_window - SEC;
    assert_eq!((nodes.stores[1].sweep(nodes.now, &rng), nodes.stores[1].orphans()), (0, 20));
    nodes.now += SEC;
    assert_eq!((nodes.stores[1].sweep(nodes.now, &rng), nodes.stores[1].orphans()), (3, 17));
}

#[test]
fn of_two_processes_with_one_id_the_later_one_counts_on_all_nodes() {
    let mut nodes = Nodes::new(2);
    // The first node's clock is ahead, and the second one knows nothing of it.
    for _ in 0..5 {
        nodes.register(0, asked("s", "other", "1")).unwrap();
    }
    nodes.register(0, by("old")).unwrap();
    nodes.now += 3 * SEC;
    nodes.register(1, by("new")).unwrap();
    nodes.settle(&[of("a")]);
    assert_eq!(
        (nodes.holder(0, "a").as_deref(), nodes.holder(1, "a").as_deref()),
        (Some("new"), Some("new"))
    );
}

#[test]
fn what_an_operator_sets_is_known_everywhere_and_outlives_a_node() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, by("h")).unwrap();
    nodes.stores[0].set_override(&key("s"), "a", &weight(7), nodes.now).unwrap();
    let overridden = FactKey { kind: Kind::Override, ..of("a") };
    nodes.settle(&[of("a"), overridden.clone()]);
    let seen = |store: &Store| store.instance(&key("s"), "a").unwrap().record.instance().weight;
    assert_eq!(seen(&nodes.stores[1]), Some(7));
    nodes.stores[0] = Store::of(Config::default(), Owner { node: 1, life: 1 << 41 });
    nodes.register(0, by("h")).unwrap();
    nodes.settle(&[of("a"), overridden.clone()]);
    assert_eq!(seen(&nodes.stores[0]), Some(7));
    assert!(nodes.stores[1].clear_override(&key("s"), "a", Parts::ALL, nodes.now));
    nodes.settle(&[of("a"), overridden]);
    assert_eq!((seen(&nodes.stores[0]), seen(&nodes.stores[1])), (None, None));
}

#[test]
fn a_version_of_no_clock_is_not_believed() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, by("h")).unwrap();
    let mut facts = nodes.stores[0].facts(&of("a"), nodes.now);
    let mut absurd = facts.remove(0);
    absurd.version.clock = u64::MAX;
    assert_eq!(nodes.stores[1].hear(absurd, nodes.now), Heard::Absurd);
    nodes.register(1, by("h")).unwrap();
    nodes.settle(&[of("a")]);
    assert_eq!(nodes.stores[0].root(), nodes.stores[1].root());
}

#[test]
fn who_takes_out_what_there_is_not_makes_nothing_else_be_forgotten() {
    let mut nodes = Nodes::new(1);
    nodes.register(0, by("h")).unwrap();
    assert!(nodes.stores[0].deregister(&key("s"), "a", "h", nodes.now));
    for n in 0..30_000 {
        nodes.stores[0].deregister(&key("s"), &format!("x{n}"), "somebody", nodes.now);
        nodes.stores[0].deregister(&key("s"), "y", &format!("h{n}"), nodes.now);
    }
    assert!(nodes.register(0, by("h")).is_err(), "it is known that it was cancelled");
    assert!(nodes.stores[0].facts(&of("y"), nodes.now).len() <= 16);
    assert!(nodes.stores[0].removals().count() < 11_000);
}

#[test]
fn an_expiry_does_not_end_what_another_node_has_that_is_heard_of() {
    let mut nodes = Nodes::new(3);
    // Neither of two nodes has heard of the other's process, and the first one's clock is ahead.
    for n in 0..5 {
        nodes.register(0, asked("s", &format!("i{n}"), "1")).unwrap();
    }
    nodes.register(0, by("old")).unwrap();
    let lease = nodes.register(1, by("new")).unwrap().lease;
    nodes.tell(1, 2, &of("a"));
    for _ in 0..8 {
        nodes.now += 5 * SEC;
        assert!(nodes.stores[1].renew(lease, nodes.now).is_some());
    }
    assert_eq!(nodes.stores[0].expire(nodes.now, 99), 6);
    nodes.tell(0, 2, &of("a"));
    assert_eq!(nodes.holder(2, "a").as_deref(), Some("new"));
    nodes.settle(&[of("a")]);
    assert!((0..3).all(|n| nodes.holder(n, "a").as_deref() == Some("new")));
}

#[test]
fn who_started_remembers_what_went_for_those_who_may_be_away_since_before() {
    let config = Config::default();
    let mut nodes = Nodes::new(2);
    nodes.register(0, by("h")).unwrap();
    nodes.tell(0, 1, &of("a"));
    assert!(nodes.stores[0].deregister(&key("s"), "a", "h", nodes.now));
    nodes.now += config.keep_removals();
    nodes.stores[0].expire(nodes.now, 99);
    nodes.tell(1, 0, &of("a"));
    assert_eq!(nodes.holder(0, "a"), None);
    // A day later it has seen everybody all the time.
    nodes.now += config.keep_for_absent;
    let (live, now) = (nodes.stores.iter().map(Store::own).collect(), nodes.now);
    nodes.stores[0].set_live(live, now);
    nodes.stores[0].expire(now, 99);
    assert_eq!(nodes.stores[0].removals().count(), 0);
}

#[test]
fn a_process_of_a_nodes_own_name_that_went_is_nobody_who_may_be_away() {
    let config = Config::default();
    let mut nodes = Nodes::new(1);
    nodes.now += config.keep_for_absent;
    let (own, now) = (nodes.stores[0].own(), nodes.now);
    let twin = Owner { life: own.life - 1, ..own };
    nodes.stores[0].set_live([own, twin].into(), now);
    nodes.stores[0].set_live([own].into(), now);
    nodes.register(0, by("h")).unwrap();
    assert!(nodes.stores[0].deregister(&key("s"), "a", "h", now));
    nodes.now += config.keep_removals();
    nodes.stores[0].expire(nodes.now, 99);
    assert_eq!(nodes.stores[0].removals().count(), 0);
}

proptest! {
    /// Whatever is said to whom, and in whatever order the nodes hear of it: in the end they are equal.
    #[test]
    fn nodes_that_have_told_each_other_everything_are_equal(
        steps in proptest::collection::vec((0..6_u8, 0..3_usize, 0..3_usize, 0..2_u8, 0..3_u8), 0..60)
    ) {
        let mut nodes = Nodes::new(3);
        let ids = ["a", "b"];
        let keys: Vec<FactKey> = ids.iter().flat_map(|id| {
            [of(id), FactKey { kind: Kind::Override, ..of(id) }]
        }).collect();
        let mut leases = Vec::new();
        for (what, n, m, id, holder) in steps {
            let id = ids[usize::from(id)];
            match what {
                0 => {
                    let asked = Registering { holder: format!("h{holder}").into(), ..asked("s", id, "1") };
                    leases.extend(nodes.register(n, asked).ok().map(|granted| (n, granted.lease)));
                }
                1 => _ = nodes.stores[n].deregister(&key("s"), id, &format!("h{holder}"), nodes.now),
                2 => keys.iter().for_each(|of| nodes.tell(n, m, of)),
                3 => if let Some((n, lease)) = leases.get(m) {
                    nodes.stores[*n].renew(*lease, nodes.now);
                },
                4 => _ = nodes.stores[n].set_override(&key("s"), id, &weight(u32::from(holder)), nodes.now),
                _ => {
                    nodes.now += 3 * SEC;
                    let now = nodes.now;
                    nodes.stores[n].expire(now, 99);
                }
            }
        }
        nodes.settle(&keys);
        let roots: Vec<_> = nodes.stores.iter().map(Store::root).collect();
        prop_assert!(roots.iter().all(|root| *root == roots[0]), "{roots:x?}");
        let lists: Vec<_> = nodes.stores.iter_mut().map(|s| match s.news(&key("s"), None) {
            News::List(list) => list.digest,
            other => panic!("{other:?}"),
        }).collect();
        prop_assert!(lists.iter().all(|list| *list == lists[0]));
    }
}

#[test]
fn a_slot_that_two_sides_gave_away_is_the_later_ones_and_the_other_gets_another() {
    let mut nodes = Nodes::new(2);
    let group = ServiceKey::slots("", "", "g").unwrap();
    let asked = |member: &str| SlotAsked {
        group: group.clone(),
        member: member.into(),
        ttl: None,
        holder: format!("h-{member}").into(),
    };
    let now = nodes.now;
    let (first, lost) = nodes.stores[0].lease_slot(asked("a"), now).unwrap();
    nodes.now += Duration::from_secs(1);
    let now = nodes.now;
    let (second, kept) = nodes.stores[1].lease_slot(asked("b"), now).unwrap();
    assert_eq!((first, second), (0, 0), "neither has heard of the other");
    nodes.settle(&[FactKey { key: group.clone(), id: "0000000000".into(), kind: Kind::Instance }]);
    let leases = (nodes.stores[0].renew(lost.lease, now), nodes.stores[1].renew(kept.lease, now));
    assert!(leases.0.is_none() && leases.1.is_some(), "{leases:?}");
    assert_eq!(nodes.stores[0].lease_slot(asked("a"), now).unwrap().0, 1);
    let slots = nodes.stores[0].slots(&group, now);
    assert_eq!(slots.iter().map(|s| s.member.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

/// Somebody registers what the nodes are to check.
fn checked(holder: &str) -> Registering {
    let endpoints = vec!["http://10.0.0.1:80".to_owned()];
    let probe = TcpProbe::default().into();
    let check = HealthCheck { probe: Some(probe), ..Default::default() };
    let instance = Instance { id: "a".into(), endpoints, check: check.into(), ..Default::default() };
    let record = Arc::new(Record::new(instance, &Limits::default()).unwrap());
    Registering { record, holder: holder.into(), ..asked("s", "a", "1") }
}

/// Which stores have it.
fn has(nodes: &Nodes) -> Vec<bool> {
    nodes.stores.iter().map(|s| s.instance(&key("s"), "a").is_some()).collect()
}

#[test]
fn what_an_operator_took_out_stays_so_though_its_probes_flapped_before_that_was_heard() {
    for holder in ["", "p1"] {
        let mut nodes = Nodes::new(2);
        nodes.register(0, checked(holder)).unwrap();
        let now = nodes.now;
        assert!(nodes.stores[0].set_health(&key("s"), "a", true, now));
        nodes.settle(&[of("a")]);
        // It is taken out at the second node; the first has not heard so, and its probe fails and succeeds meanwhile.
        assert!(nodes.stores[1].deregister(&key("s"), "a", "", now));
        assert!(nodes.stores[0].set_health(&key("s"), "a", false, now));
        assert!(nodes.stores[0].set_health(&key("s"), "a", true, now));
        nodes.settle(&[of("a")]);
        assert_eq!(has(&nodes), [false, false]);
        // Whoever wants it again has it again, on whichever node.
        nodes.register(1, checked(holder)).unwrap();
        nodes.settle(&[of("a")]);
        assert_eq!(has(&nodes), [true, true]);
    }
}

#[test]
fn what_an_operator_took_out_stays_so_though_another_node_took_it_over_meanwhile() {
    let owner = |node| Owner { node, life: (1 << 40) + node };
    let mut nodes = Nodes::new(3);
    nodes.register(0, checked("")).unwrap();
    let now = nodes.now;
    assert!(nodes.stores[0].set_health(&key("s"), "a", true, now));
    nodes.settle(&[of("a")]);
    // Two lose sight of the first, one of them takes over, and its probes fail. At the first it is taken out.
    nodes.stores[1].set_live([owner(3)].into_iter().collect(), now);
    nodes.stores[2].set_live([owner(2)].into_iter().collect(), now);
    nodes.stores[0].set_live(BTreeSet::new(), now);
    assert!(nodes.stores[0].deregister(&key("s"), "a", "", now));
    assert_eq!(nodes.stores[1].tend_checked(true, now).len(), 1);
    assert!(nodes.stores[1].set_health(&key("s"), "a", false, now));
    nodes.stores.iter_mut().for_each(|s| s.set_live((1..=3).map(owner).collect(), now));
    nodes.settle(&[of("a")]);
    assert_eq!(has(&nodes), [false, false, false]);
}

#[test]
fn who_registers_a_checked_instance_again_after_it_was_taken_out_has_it_though_that_was_not_heard() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, checked("")).unwrap();
    nodes.settle(&[of("a")]);
    // Taken out at the first, and registered again at the second, which had heard something later.
    let now = nodes.now;
    assert!(nodes.stores[0].deregister(&key("s"), "a", "", now));
    nodes.register(1, Registering { record: record("b", "1"), ..asked("s", "b", "1") }).unwrap();
    nodes.register(1, checked("")).unwrap();
    nodes.settle(&[of("a"), of("b")]);
    assert_eq!(has(&nodes), [true, true]);
}

#[test]
fn what_two_sides_checked_is_one_nodes_again_and_nobody_insists() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, checked("h")).unwrap();
    nodes.settle(&[of("a")]);
    // Each loses sight of the other, and the second one takes over; both go on checking.
    let (now, alone) = (nodes.now, BTreeSet::new());
    nodes.stores[1].set_live(alone, now);
    assert_eq!(nodes.stores[1].tend_checked(false, now).len(), 0, "it is not its to take over");
    assert_eq!(nodes.stores[1].tend_checked(true, now).len(), 1);
    assert!(nodes.stores[1].set_health(&key("s"), "a", true, now));
    for _ in 0..100 {
        nodes.now += Duration::from_secs(1);
        let now = nodes.now;
        nodes.stores.iter_mut().for_each(|store| assert_eq!(store.tend_checked(false, now).len(), 1));
    }
    let now = nodes.now;
    let owner = |node| Owner { node, life: (1 << 40) + node };
    nodes.stores[1].set_live((1..=2).map(owner).collect(), now);
    nodes.settle(&[of("a")]);
    let checking: Vec<_> = nodes.stores.iter_mut().map(|store| store.tend_checked(true, now).len()).collect();
    assert_eq!(checking, [0, 1]);
    for store in &mut nodes.stores {
        assert!(store.instance(&key("s"), "a").unwrap().record.is_up(), "the later word");
        assert_eq!(store.expire(now, 10), 0);
    }
}
