//! The store against what it promises, and against a model.

mod expiry;
mod replicated;

use std::collections::BTreeMap;

use bowline_registry_bowline::api::bowline::registry::v1::{Emptiness, Instance, InstanceStatus};
use proptest::prelude::*;

use super::*;

const SEC: Duration = Duration::from_secs(1);

struct Fixture {
    store: Store,
    now: Instant,
}

fn key(service: &str) -> ServiceKey {
    ServiceKey::new("", "", service).unwrap()
}

fn record(id: &str, version: &str) -> Arc<Record> {
    let instance = Instance { id: id.into(), version: version.into(), ..Default::default() };
    Arc::new(Record::new(instance, &crate::Limits::default()).unwrap())
}

fn asked(service: &str, id: &str, version: &str) -> Registering {
    Registering {
        key: key(service),
        record: record(id, version),
        ttl: Some(10 * SEC),
        holder: "h".into(),
        sequence: 0,
        only_if_free: false,
    }
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self { store: Store::new(config, 1 << 40), now: Instant::now() }
    }

    fn register(&mut self, asked: Registering) -> Result<Granted> {
        self.store.register(asked, self.now)
    }

    fn up(&mut self, service: &str, id: &str) -> Granted {
        self.register(asked(service, id, "1")).unwrap()
    }

    fn down(&mut self, service: &str, id: &str) -> bool {
        self.store.deregister(&key(service), id, "h", self.now)
    }

    fn pass(&mut self, time: Duration) -> usize {
        self.now += time;
        self.store.expire(self.now, usize::MAX)
    }

    fn list(&mut self, service: &str) -> Arc<List> {
        match self.store.news(&key(service), None) {
            News::List(list) => list,
            other => panic!("{other:?}"),
        }
    }

    fn ids(&mut self, service: &str) -> Vec<String> {
        self.list(service).records.iter().map(|r| r.id().to_string()).collect()
    }
}

#[test]
fn renewals_and_known_content_change_no_revision() {
    let mut f = Fixture::new();
    let granted = f.up("s", "a");
    let revision = f.list("s").revision;
    f.store.take_changed();
    assert_eq!(f.store.renew(granted.lease, f.now), Some(10 * SEC));
    assert_eq!(f.up("s", "a"), granted, "the same holder keeps its lease");
    let other = f.register(Registering { holder: "other".into(), ..asked("s", "a", "1") }).unwrap();
    assert_ne!(other.lease, granted.lease, "another holder has its own");
    assert_eq!((f.list("s").revision, f.store.take_changed()), (revision, vec![]));
    f.register(Registering { holder: "other".into(), ..asked("s", "a", "2") }).unwrap();
    assert_eq!((f.list("s").revision, f.store.take_changed()), (revision + 1, vec![key("s")]));
}

#[test]
fn a_lease_that_is_not_renewed_runs_out_and_the_reason_is_kept() {
    let mut f = Fixture::new();
    let a = f.up("s", "a");
    assert_eq!(f.pass(9 * SEC), 0);
    assert!(f.store.renew(a.lease, f.now).is_some());
    assert_eq!(f.pass(9 * SEC), 0);
    assert_eq!(f.pass(SEC), 1);
    assert!(f.store.renew(a.lease, f.now).is_none());
    assert_eq!(f.list("s").empty, Emptiness::EMPTINESS_EXPIRED);
    f.up("s", "a");
    assert!(f.down("s", "a"));
    assert_eq!(f.list("s").empty, Emptiness::EMPTINESS_CANCELLED);
    assert_eq!(f.list("never-heard-of").empty, Emptiness::EMPTINESS_UNKNOWN);
}

#[test]
fn deregistering_twice_or_what_belongs_to_another_holder_does_nothing() {
    let mut f = Fixture::new();
    f.up("s", "a");
    assert!(!f.store.deregister(&key("s"), "a", "stranger", f.now));
    assert_eq!(f.ids("s"), ["a"]);
    assert!(f.down("s", "a"));
    assert!(!f.down("s", "a"));
    f.up("s", "b");
}

#[test]
fn a_registration_that_arrives_after_its_cancellation_is_refused() {
    let mut f = Fixture::new();
    f.down("s", "a");
    let error = f.register(asked("s", "a", "1")).unwrap_err();
    assert!(registry_error::is_registration_cancelled(&error), "{error:?}");
    let other = Registering { holder: "next life".into(), ..asked("s", "a", "1") };
    f.register(other).unwrap();
    f.pass(Config::default().keep_removals());
    f.up("s", "a");
}

#[test]
fn of_what_one_holder_says_the_latest_counts_whenever_it_arrives() {
    let mut f = Fixture::new();
    f.register(Registering { sequence: 2, ..asked("s", "a", "new") }).unwrap();
    f.register(Registering { sequence: 1, ..asked("s", "a", "old") }).unwrap();
    assert_eq!(f.list("s").records[0].instance().version, "new");
}

#[test]
fn who_lost_its_lease_does_not_take_the_id_from_who_holds_it_now() {
    let mut f = Fixture::new();
    f.up("s", "a");
    let returning = || Registering { holder: "other".into(), only_if_free: true, ..asked("s", "a", "2") };
    let error = f.register(returning()).unwrap_err();
    assert!(registry_error::is_instance_taken(&error), "{error:?}");
    // Run out, though nobody has noticed yet.
    f.now += 10 * SEC;
    f.register(returning()).unwrap();
    assert_eq!(f.list("s").records[0].instance().version, "2");
}

#[test]
fn limits_are_refused_with_their_names_and_unused_services_give_way() {
    let mut f = Fixture::with(|c| {
        c.limits.services = 2;
        c.limits.instances_per_service = 2;
        c.limits.instances = 3;
    });
    f.up("s", "a");
    f.up("s", "b");
    let error = f.register(asked("s", "c", "1")).unwrap_err();
    assert!(error.message().contains("`limits.instances_per_service`"), "{error}");
    f.up("t", "a");
    assert!(f.register(asked("t", "b", "1")).unwrap_err().message().contains("`limits.instances`"));
    f.down("s", "b");
    let error = f.register(asked("u", "a", "1")).unwrap_err();
    assert!(registry_error::is_too_many_services(&error), "{error:?}");
    f.down("t", "a");
    f.up("u", "a");
    assert_eq!(f.list("t").empty, Emptiness::EMPTINESS_UNKNOWN);
}

fn slot(f: &mut Fixture, group: &str, holder: &str) -> Result<u32> {
    let group = ServiceKey::slots("", "", group).unwrap();
    let asked = SlotAsked { group, member: String::new(), ttl: Some(10 * SEC), holder: holder.into() };
    f.store.lease_slot(asked, f.now).map(|(slot, _)| slot)
}

#[test]
fn slots_and_services_have_limits_of_their_own_and_neither_takes_the_others_room() {
    let mut f = Fixture::with(|c| {
        (c.limits.services, c.limits.instances) = (1, 2);
        (c.limits.slot_groups, c.limits.slots) = (2, 3);
    });
    assert_eq!(slot(&mut f, "g", "one").unwrap(), 0);
    assert_eq!(slot(&mut f, "h", "one").unwrap(), 0);
    let error = slot(&mut f, "i", "one").unwrap_err();
    assert!(registry_error::is_too_many_services(&error), "{error:?}");
    assert!(
        error.message().contains("2 groups of slots") && error.message().contains("`limits.slot_groups`")
    );
    assert_eq!(slot(&mut f, "g", "two").unwrap(), 1);
    let error = slot(&mut f, "g", "three").unwrap_err();
    assert!(error.message().contains("3 slots;") && error.message().contains("`limits.slots`"), "{error}");
    // Services find all their room, and those that are empty do not give way to a group, nor it to them.
    f.up("s", "a");
    f.up("s", "b");
    let error = f.register(asked("s", "c", "1")).unwrap_err();
    assert!(error.message().contains("2 instances;") && error.message().contains("`limits.instances`"));
    assert!(f.down("s", "a") && f.down("s", "b"));
    assert!(slot(&mut f, "i", "one").is_err() && f.list("s").empty != Emptiness::EMPTINESS_UNKNOWN);
    f.up("s", "c");
    let h = ServiceKey::slots("", "", "h").unwrap();
    assert!(f.store.release_slot(&h, 0, "one", f.now));
    let error = f.register(asked("t", "a", "1")).unwrap_err();
    assert!(error.message().contains("`limits.services`"), "{error}");
    assert_eq!(slot(&mut f, "i", "one").unwrap(), 0, "in place of the group that nobody uses any more");
    // All of it is free again once leases have run out, and then the names are forgotten.
    f.pass(3600 * SEC);
    f.pass(3600 * SEC);
    assert_eq!(f.store.counts(), Counts::default());
    assert_eq!((f.store.of_services.names, f.store.of_slots.names), (0, 0));
}

#[test]
fn ttls_out_of_bounds_are_refused() {
    let mut f = Fixture::new();
    for ttl in [Duration::ZERO, SEC / 2, Duration::from_secs(601), Duration::MAX] {
        let error = f.register(Registering { ttl: Some(ttl), ..asked("s", "a", "1") }).unwrap_err();
        assert!(registry_error::is_invalid_ttl(&error), "{error:?}");
    }
}

#[test]
fn who_comes_back_soon_gets_changes_and_who_comes_back_late_the_list() {
    let mut f = Fixture::with(|c| c.limits.changes_kept = 4);
    f.up("s", "a");
    let known = f.list("s").revision;
    f.up("s", "b");
    f.up("s", "c");
    f.down("s", "c");
    let News::Changes(changes) = f.store.news(&key("s"), Some(known)) else { panic!() };
    let upserted: Vec<_> = changes.upserted.iter().map(|r| r.id().to_string()).collect();
    let removed = vec![("c".into(), RemovalReason::REMOVAL_REASON_CANCELLED)];
    assert_eq!((upserted, changes.removed), (vec!["b".to_owned()], removed));
    for id in ["d", "e"] {
        f.up("s", id);
    }
    assert!(matches!(f.store.news(&key("s"), Some(known)), News::List(_)));
    let revision = f.list("s").revision;
    assert!(matches!(f.store.news(&key("s"), Some(revision)), News::None));
    assert!(
        matches!(f.store.news(&key("s"), Some(revision + 1)), News::List(_)),
        "from a future that is not ours"
    );
}

#[test]
fn a_forgotten_service_never_repeats_a_revision() {
    let mut f = Fixture::new();
    f.up("s", "a");
    let first = f.list("s").revision;
    f.down("s", "a");
    let emptied = f.list("s").revision;
    f.pass(Config::default().forget_after);
    assert_eq!(f.list("s").revision, 0);
    f.up("s", "b");
    assert!(f.list("s").revision > emptied);
    assert!(matches!(f.store.news(&key("s"), Some(first)), News::List(_)));
}

#[test]
fn a_list_is_made_once_for_all_who_ask_at_its_revision() {
    let mut f = Fixture::new();
    f.up("s", "a");
    assert!(Arc::ptr_eq(&f.list("s"), &f.list("s")));
}

#[test]
fn services_are_listed_per_namespace_and_environment() {
    let mut f = Fixture::new();
    f.up("s", "a");
    f.up("s", "b");
    f.up("gone", "a");
    f.down("gone", "a");
    let elsewhere = Registering { key: ServiceKey::new("", "prod", "p").unwrap(), ..asked("s", "a", "1") };
    f.register(elsewhere).unwrap();
    let names = |all: Vec<Summary>| -> Vec<_> {
        all.iter().map(|s| (s.key.service().to_owned(), s.instances, s.up)).collect()
    };
    assert_eq!(names(f.store.services("default", "default")), [("s".to_owned(), 2, 2)]);
    assert_eq!(names(f.store.services("default", "prod")), [("p".to_owned(), 1, 1)]);
    assert!(f.store.services("default", "pro").is_empty());
}

fn weight(weight: u32) -> Override {
    Override { weight: Some(weight), ..Override::default() }
}

#[test]
fn an_override_survives_new_registrations_new_holders_and_the_end_of_the_lease() {
    let mut f = Fixture::new();
    f.up("s", "a");
    let (digest, revision) = (f.list("s").digest, f.list("s").revision);
    let first = f.store.set_override(&key("s"), "a", &weight(7), f.now).unwrap();
    assert_eq!(f.store.set_override(&key("s"), "a", &weight(7), f.now).unwrap(), first, "twice is once");
    assert_ne!(f.list("s").digest, digest);
    assert_eq!(f.list("s").revision, revision + 1);
    let seen = |f: &mut Fixture| f.list("s").records[0].instance().weight;
    f.register(asked("s", "a", "2")).unwrap();
    assert_eq!(seen(&mut f), Some(7));
    f.register(Registering { holder: "other".into(), ..asked("s", "a", "3") }).unwrap();
    assert_eq!(seen(&mut f), Some(7));
    assert_eq!(f.pass(10 * SEC), 1);
    f.store.set_override(&key("s"), "a", &weight(8), f.now).unwrap();
    f.up("s", "a");
    assert_eq!(seen(&mut f), Some(8));
    assert!(f.list("s").records[0].overridden().unwrap().sequence > first.sequence);
    f.pass(10 * SEC);
    f.pass(Config::default().keep_overrides);
    assert_eq!(f.store.counts().overrides, 0);
    let error = f.store.set_override(&key("s"), "a", &weight(8), f.now).unwrap_err();
    assert!(registry_error::is_instance_not_found(&error), "{error:?}");
    f.up("s", "a");
    assert_eq!((seen(&mut f), f.list("s").digest), (None, digest));
}

#[test]
fn an_override_that_is_taken_back_leaves_what_was_registered() {
    let mut f = Fixture::new();
    f.up("s", "a");
    let digest = f.list("s").digest;
    let metadata = [("k".to_owned(), "v".to_owned())].into();
    let out = Some(InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE);
    let change = Override { status: out, metadata, ..weight(7) };
    f.store.set_override(&key("s"), "a", &change, f.now).unwrap();
    assert_eq!((f.list("s").records[0].is_up(), f.store.services("default", "default")[0].up), (false, 0));
    assert!(f.store.clear_override(&key("s"), "a", Parts::STATUS, f.now));
    assert!(!f.store.clear_override(&key("s"), "a", Parts::STATUS, f.now));
    let record = Arc::clone(&f.list("s").records[0]);
    assert_eq!((record.is_up(), record.instance().metadata["k"].as_str()), (true, "v"));
    assert!(f.store.clear_override(&key("s"), "a", Parts::ALL, f.now));
    assert_eq!((f.list("s").digest, f.store.counts().overrides), (digest, 0));
    assert!(f.list("s").records[0].overridden().is_none());
}

#[test]
fn no_override_gives_traffic_to_who_is_still_starting() {
    let mut f = Fixture::new();
    let starting = |id: &str, status: InstanceStatus| {
        let instance = Instance { id: id.into(), status: status.into(), ..Default::default() };
        Arc::new(Record::new(instance, &crate::Limits::default()).unwrap())
    };
    let up = Override { status: Some(InstanceStatus::INSTANCE_STATUS_UP), ..Override::default() };
    for (status, expected) in [
        (InstanceStatus::INSTANCE_STATUS_STARTING, false),
        (InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE, true),
    ] {
        f.register(Registering { record: starting("a", status), ..asked("s", "a", "1") }).unwrap();
        f.store.set_override(&key("s"), "a", &up, f.now).unwrap();
        assert_eq!(f.list("s").records[0].is_up(), expected);
    }
}

#[test]
fn overrides_are_limited_in_number_and_size() {
    let mut f = Fixture::with(|c| (c.limits.overrides, c.limits.metadata_entries) = (1, 2));
    f.up("s", "a");
    f.up("s", "b");
    let entries = |n: usize| Override {
        metadata: (0..n).map(|n| (format!("k{n}"), String::new())).collect(),
        ..Override::default()
    };
    let error = f.store.set_override(&key("s"), "a", &entries(3), f.now).unwrap_err();
    assert!(error.message().contains("3 entries of metadata; at most 2"), "{error}");
    f.store.set_override(&key("s"), "a", &entries(2), f.now).unwrap();
    let error = f.store.set_override(&key("s"), "b", &entries(1), f.now).unwrap_err();
    assert!(registry_error::is_too_many_overrides(&error), "{error:?}");
}

#[test]
fn changes_are_recent_for_three_minutes_and_at_most_ten_thousand() {
    let mut f = Fixture::new();
    f.up("s", "a");
    f.up("s", "a");
    f.store.set_override(&key("s"), "a", &weight(7), f.now).unwrap();
    f.down("s", "a");
    let recent = |f: &mut Fixture| -> Vec<_> { f.store.recent(f.now).map(|r| r.happened).collect() };
    assert_eq!(recent(&mut f), [Happened::Added, Happened::Modified, Happened::Removed]);
    f.now += 179 * SEC;
    f.up("s", "b");
    f.now += SEC;
    assert_eq!(recent(&mut f), [Happened::Added]);
    for n in 0..10_001 {
        f.register(asked("s", "b", &n.to_string())).unwrap();
    }
    assert_eq!(recent(&mut f), [Happened::Modified; 10_000]);
}

/// What somebody knows who only ever sees news.
#[derive(Default)]
struct Replica {
    revision: Option<u64>,
    records: BTreeMap<Arc<str>, Arc<Record>>,
}

impl Replica {
    fn catch_up(&mut self, news: News) {
        let (revision, digest) = match news {
            News::None => return,
            News::List(list) => {
                self.records = list.records.iter().map(|r| (Arc::clone(r.id()), Arc::clone(r))).collect();
                (list.revision, list.digest)
            }
            News::Changes(changes) => {
                assert_eq!(Some(changes.from_revision), self.revision);
                for record in changes.upserted {
                    self.records.insert(Arc::clone(record.id()), record);
                }
                for (id, _) in changes.removed {
                    self.records.remove(&id);
                }
                (changes.revision, changes.digest)
            }
        };
        self.revision = Some(revision);
        let sum = self.records.values().fold(0_u64, |sum, r| sum.wrapping_add(r.hash()));
        assert_eq!(sum, digest);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Register { service: u8, id: u8, version: u8, holder: u8 },
    Deregister { service: u8, id: u8, holder: u8 },
    Override { service: u8, id: u8, weight: Option<u8> },
    Pass(u16),
    CatchUp(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let register = (0..2_u8, 0..4_u8, 0..3_u8, 0..2_u8)
        .prop_map(|(service, id, version, holder)| Step::Register { service, id, version, holder });
    let deregister = (0..2_u8, 0..4_u8, 0..3_u8).prop_map(|(service, id, holder)| Step::Deregister {
        service,
        id,
        holder,
    });
    let overrides = (0..2_u8, 0..4_u8, proptest::option::of(0..3_u8))
        .prop_map(|(service, id, weight)| Step::Override { service, id, weight });
    let step = prop_oneof![4 => register, 2 => deregister, 2 => overrides, 2 => (0..9_u16).prop_map(Step::Pass), 2 => (0..3_u8).prop_map(Step::CatchUp)];
    proptest::collection::vec(step, 0..120)
}

/// An instance of the model: its version, its holder, when it runs out.
type Modelled = (String, String, Instant);

/// An override of the model: the weight, and since when its instance is gone.
type Weighed = (u32, Option<Instant>);

proptest! {
    /// A model that keeps everything in one map, and three replicas that look now and then, must agree with the store.
    #[test]
    fn after_any_steps_the_store_is_as_the_model_and_watchers_see_it(steps in steps()) {
        let mut f = Fixture::with(|c| { c.limits.changes_kept = 5; c.max_ttl = 10 * SEC; c.default_ttl = SEC; c.partition_window = Duration::ZERO; c.protection_threshold = 0; c.forget_after = 20 * SEC; c.keep_overrides = 15 * SEC; });
        let mut model: BTreeMap<(String, String), Modelled> = BTreeMap::new();
        let mut weights: BTreeMap<(String, String), Weighed> = BTreeMap::new();
        let mut graves: BTreeMap<((String, String), String), Instant> = BTreeMap::new();
        let mut replicas: [[Replica; 2]; 3] = Default::default();
        let holder = |n: u8| if n == 2 { String::new() } else { format!("h{n}") };
        for step in steps {
            match step {
                Step::Register { service, id, version, holder: h } => {
                    let (service, id, version) = (service.to_string(), id.to_string(), version.to_string());
                    let asked = Registering { holder: holder(h).into(), ..asked(&service, &id, &version) };
                    let name = (service, id);
                    let refused = h != 2 && graves.contains_key(&(name.clone(), holder(h)));
                    prop_assert_eq!(f.register(asked).is_err(), refused);
                    if refused {
                        continue;
                    }
                    if let Some(weight) = weights.get_mut(&name) {
                        weight.1 = None;
                    }
                    model.insert(name, (version, holder(h), f.now + 10 * SEC));
                }
                Step::Deregister { service, id, holder: h } => {
                    let (service, id, h) = (service.to_string(), id.to_string(), holder(h));
                    let name = (service, id);
                    let expected = model.get(&name).is_some_and(|m| h.is_empty() || m.1 == h);
                    prop_assert_eq!(f.store.deregister(&key(&name.0), &name.1, &h, f.now), expected);
                    if !h.is_empty() {
                        graves.insert((name.clone(), h), f.now);
                    }
                    if expected {
                        model.remove(&name);
                        weights.entry(name).and_modify(|w| w.1 = Some(f.now));
                    }
                }
                Step::Override { service, id, weight: Some(w) } => {
                    let name = (service.to_string(), id.to_string());
                    let expected = model.contains_key(&name) || weights.contains_key(&name);
                    let set = f.store.set_override(&key(&name.0), &name.1, &weight(u32::from(w)), f.now);
                    prop_assert_eq!(set.is_ok(), expected);
                    if expected {
                        weights.entry(name).or_insert((0, None)).0 = u32::from(w);
                    }
                }
                Step::Override { service, id, weight: None } => {
                    let name = (service.to_string(), id.to_string());
                    let expected = weights.remove(&name).is_some();
                    prop_assert_eq!(f.store.clear_override(&key(&name.0), &name.1, Parts::ALL, f.now), expected);
                }
                Step::Pass(secs) => {
                    let expired = f.pass(SEC * u32::from(secs));
                    let before = model.len();
                    graves.retain(|_, since| *since + 10 * SEC > f.now);
                    for (name, _) in model.extract_if(.., |_, m| m.2 <= f.now) {
                        weights.entry(name).and_modify(|w| w.1 = Some(f.now));
                    }
                    weights.retain(|_, w| w.1.is_none_or(|gone| gone + 15 * SEC > f.now));
                    prop_assert_eq!(expired, before - model.len());
                }
                Step::CatchUp(which) => for (n, replica) in replicas[usize::from(which)].iter_mut().enumerate() {
                    replica.catch_up(f.store.news(&key(&n.to_string()), replica.revision));
                },
            }
            prop_assert_eq!((f.store.counts().instances, f.store.counts().overrides), (model.len(), weights.len()));
        }
        for replica in &mut replicas {
            for (n, replica) in replica.iter_mut().enumerate() {
                replica.catch_up(f.store.news(&key(&n.to_string()), replica.revision));
                let seen: Vec<_> = replica.records.values().map(|r| (r.id().to_string(), r.instance().version.clone(), r.instance().weight)).collect();
                let expected: Vec<_> = model.iter().filter(|((s, _), _)| *s == n.to_string()).map(|(name, m)| (name.1.clone(), m.0.clone(), weights.get(name).map(|w| w.0))).collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }
}

#[test]
fn services_that_come_and_go_all_the_time_do_not_pile_up() {
    let mut f = Fixture::new();
    let flap = |f: &mut Fixture, service: &str| {
        f.register(Registering { holder: "".into(), ..asked(service, "a", "1") }).unwrap();
        assert!(f.store.deregister(&key(service), "a", "", f.now));
        f.now += SEC / 1_000;
    };
    flap(&mut f, "first");
    for n in 0..20_000 {
        flap(&mut f, if n % 2 == 0 { "s" } else { "t" });
    }
    assert!(f.store.of_services.emptied.len() < 200, "{}", f.store.of_services.emptied.len());
    // Each is still forgotten in its time.
    f.now += Config::default().forget_after;
    f.store.expire(f.now, 100);
    assert_eq!((f.store.counts().services, f.store.of_services.emptied.len()), (0, 0));
}

#[test]
fn of_overrides_that_were_taken_back_the_oldest_are_forgotten_beyond_a_number() {
    let mut f = Fixture::with(|config| config.limits.overrides = 10);
    let (most, weight) = (overrides::MOST_TAKEN_BACK, Override { weight: Some(1), ..Override::default() });
    for n in 0..most + 100 {
        let id = format!("i{n}");
        f.up("s", &id);
        f.store.set_override(&key("s"), &id, &weight, f.now).unwrap();
        assert!(f.store.clear_override(&key("s"), &id, Parts::ALL, f.now));
        // Half of the instances stay.
        if n % 2 == 0 {
            f.down("s", &id);
        }
    }
    f.store.set_override(&key("s"), "i1", &weight, f.now).unwrap();
    let known = f.store.fact_keys().into_iter().filter(|of| of.kind == Kind::Override).count();
    assert_eq!((known, f.store.counts().overrides), (most + 1, 1));
    assert!(f.store.overrides.kept(&key("s"), &"i99".into()).is_none(), "the oldest went");
    // One that is set and taken back again and again is one.
    for _ in 0..1_000 {
        f.store.set_override(&key("s"), "i1", &weight, f.now).unwrap();
        assert!(f.store.clear_override(&key("s"), "i1", Parts::ALL, f.now));
    }
    assert!(f.store.overrides.kept(&key("s"), &"i201".into()).is_some());
}
