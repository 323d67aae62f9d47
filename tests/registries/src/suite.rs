//! The tests. Each starts a server of its own.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Context, Endpoint, Instance, InstanceStatus, Tenant};
use bowline_discovery::{Emptiness, Registration, Snapshot, State, Watcher};
use bowline_testkit::Relay;
use futures_util::future::join_all;

use crate::{Backend, Client, GRACE, LEASE, LastDeath};

/// The longest any of these waits for anything: the machine may be slow and have other work.
const PATIENCE: Duration = Duration::from_secs(60);

fn cx() -> Context {
    Context::background().with_timeout(PATIENCE)
}

/// An instance at an address of its own: there are registries that tell instances apart by that.
fn instance(id: &str) -> Instance {
    let number = id.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    let port = 20_000 + number + 1_000 * u16::from(id.bytes().next().unwrap_or(0) % 32);
    Instance::new("s", id).with_endpoint(Endpoint::http("127.0.0.1", port))
}

/// An instance that says as little as the registry takes.
fn bare<B: Backend>(service: &str, id: &str) -> Instance {
    let bare = Instance::new(service, id);
    if B::NEEDS_ADDRESS { bare.with_endpoint(Endpoint::http("127.0.0.1", 9000)) } else { bare }
}

fn ids(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.instances.iter().map(|i| i.id.as_str()).collect()
}

fn is_live(snapshot: &Snapshot, expected: &[&str]) -> bool {
    snapshot.state == State::Live && ids(snapshot) == expected
}

fn is_stale(snapshot: &Snapshot) -> bool {
    matches!(snapshot.state, State::Stale { .. })
}

async fn register(client: &Client, instance: Instance) -> Box<dyn Registration> {
    client.registrar.register(&cx(), instance).await.unwrap()
}

/// Waits for a snapshot.
async fn until(watcher: &Watcher, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut own = watcher.clone();
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let current = own.current();
            if wanted(&current) {
                return current;
            }
            own.changed().await;
        }
    });
    let waited = waited.await.ok();
    waited.unwrap_or_else(|| panic!("not in {PATIENCE:?}: {what}; it is {:?}", watcher.current()))
}

/// Sees to it that every snapshot is as wanted, for a time.
async fn throughout(watcher: &Watcher, time: Duration, what: &str, wanted: impl Fn(&Snapshot) -> bool) {
    let mut own = watcher.clone();
    let watched = tokio::time::timeout(time, async {
        loop {
            let current = own.current();
            assert!(wanted(&current), "not {what}: {current:?}");
            own.changed().await;
        }
    });
    assert!(watched.await.is_err());
}

/// The happy way.
pub async fn a_watcher_sees_who_registers_changes_and_deregisters<B: Backend>() {
    let backend = B::start().await;
    let (provider, consumer) = (backend.client(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let a = register(&provider, instance("a")).await;
    until(&watcher, "a", |s| is_live(s, &["a"])).await;
    let b = register(&provider, instance("b")).await;
    let other = register(&provider, bare::<B>("s-other", "c")).await;
    until(&watcher, "a and b", |s| is_live(s, &["a", "b"])).await;
    assert!(consumer.discovery.watch("s-other").ready(&cx()).await.unwrap().get(&"c".into_id()).is_some());

    let changed = Instance { weight: 7, status: InstanceStatus::OutOfService, ..instance("a") };
    a.update(&cx(), changed.clone()).await.unwrap();
    until(&watcher, "a changed", |s| s.instances.iter().any(|i| **i == changed)).await;
    assert!(a.update(&cx(), instance("b")).await.unwrap_err().is_invalid());

    a.deregister(&cx()).await.unwrap();
    a.deregister(&cx()).await.unwrap();
    until(&watcher, "b alone", |s| is_live(s, &["b"])).await;
    assert!(a.update(&cx(), instance("a")).await.is_err());
    b.deregister(&cx()).await.unwrap();
    until(&watcher, "nobody, removed", |s| s.state == State::Empty(Emptiness::Cancelled)).await;
    other.deregister(&cx()).await.unwrap();
}

trait IntoId {
    fn into_id(self) -> bowline_core::InstanceId;
}

impl IntoId for &str {
    fn into_id(self) -> bowline_core::InstanceId {
        bowline_core::InstanceId::new(self)
    }
}

/// Nothing is lost or changed on the way.
pub async fn every_field_of_an_instance_goes_there_and_back<B: Backend>() {
    let backend = B::start().await;
    let (provider, consumer) = (backend.client(), backend.client());
    let full = Instance {
        version: "1.2.3+größer".into(),
        zone: "zone-a".into(),
        cluster: "blue".into(),
        tenant: Tenant::new("canary").unwrap(),
        weight: 0,
        status: InstanceStatus::Starting,
        endpoints: vec![
            Endpoint::https("10.0.0.1", 443),
            Endpoint::http("::1", 80),
            Endpoint::unix("/run/s"),
        ],
        metadata: [("region", "eu"), ("empty", ""), ("zone", "not the field"), ("ключ", "\"{}\n")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Instance::new("s", "10.0.0.1:443@host-1")
    };
    let elsewhere = Instance { env: "elsewhere".into(), ..instance("b") };
    let _held = register(&provider, full.clone()).await;
    let _elsewhere = register(&provider, elsewhere).await;
    let _plain = register(&provider, bare::<B>("s", "plain")).await;
    let watcher = consumer.discovery.watch("s");
    let seen = until(&watcher, "two of this environment", |s| s.instances.len() == 2).await;
    assert_eq!(*seen.instances[0], full);
    assert_eq!(*seen.instances[1], bare::<B>("s", "plain"));
}

/// A crash.
pub async fn who_vanishes_is_gone_after_its_lease<B: Backend>() {
    let backend = B::start().await;
    let (dying, living, consumer) = (backend.client(), backend.client(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let _a = register(&living, instance("a")).await;
    let b = register(&dying, instance("b")).await;
    until(&watcher, "a and b", |s| is_live(s, &["a", "b"])).await;
    drop((b, dying));
    until(&watcher, "a alone", |s| is_live(s, &["a"])).await;
    // Who lives stays for more than a lease.
    throughout(&watcher, LEASE * 2, "a, live", |s| is_live(s, &["a"])).await;
}

/// What is left when nobody is.
pub async fn the_death_of_the_last_one_is_told_from_its_removal<B: Backend>() {
    let backend = B::start().await;
    let (dying, consumer) = (backend.client(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let a = register(&dying, instance("a")).await;
    until(&watcher, "a", |s| is_live(s, &["a"])).await;
    drop((a, dying));
    match B::LAST_DEATH {
        LastDeath::Kept => {
            let seen = until(&watcher, "a, stale", is_stale).await;
            assert_eq!((ids(&seen), seen.fault.is_some()), (vec!["a"], true));
            throughout(&watcher, LEASE, "a, stale", |s| is_stale(s) && ids(s) == ["a"]).await;
        }
        LastDeath::Untold => {
            // As if it was removed; or not even that, where the watcher's own connection broke just then.
            until(&watcher, "nobody", |s| matches!(s.state, State::Empty(_))).await;
        }
    }
    let b = register(&backend.client(), instance("b")).await;
    until(&watcher, "b", |s| is_live(s, &["b"])).await;
    b.deregister(&cx()).await.unwrap();
    until(&watcher, "nobody, removed", |s| s.state == State::Empty(Emptiness::Cancelled)).await;
}

/// A restart with what data it keeps.
pub async fn a_restarted_registry_loses_nobody<B: Backend>() {
    let mut backend = B::start().await;
    let (provider, consumer) = (backend.client(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let held = register(&provider, instance("a")).await;
    until(&watcher, "a", |s| is_live(s, &["a"])).await;
    for _ in 0..2 {
        backend.kill().await;
        let stale = until(&watcher, "stale", is_stale).await;
        assert_eq!(ids(&stale), ["a"]);
        backend.start_again().await;
        until(&watcher, "a again", |s| is_live(s, &["a"])).await;
        throughout(&watcher, LEASE * 2, "a", |s| ids(s) == ["a"]).await;
        let late = backend.client();
        let fresh = late.discovery.watch("s");
        until(&fresh, "a, for a new client", |s| is_live(s, &["a"])).await;
    }
    held.deregister(&cx()).await.unwrap();
    until(&watcher, "nobody, removed", |s| s.state == State::Empty(Emptiness::Cancelled)).await;
}

/// A restart without data.
pub async fn a_registry_without_its_data_is_filled_again_and_nobody_is_lost_meanwhile<B: Backend>() {
    let mut backend = B::start().await;
    let (provider, consumer) = (backend.client(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let _a = register(&provider, instance("a")).await;
    let _b = register(&provider, instance("b")).await;
    until(&watcher, "a and b", |s| is_live(s, &["a", "b"])).await;
    let lossless = throughout(&watcher, GRACE * 2, "a and b", |s| ids(s) == ["a", "b"]);
    let restart = async {
        backend.kill().await;
        backend.wipe();
        backend.start_again().await;
        until(&watcher, "a and b again", |s| is_live(s, &["a", "b"])).await;
    };
    tokio::join!(lossless, restart);
    until(&watcher, "a and b", |s| is_live(s, &["a", "b"])).await;
}

/// An answer that is empty without a reason.
pub async fn an_empty_registry_does_not_empty_a_list<B: Backend>() {
    let mut backend = B::start().await;
    let consumer = backend.client();
    let watcher = consumer.discovery.watch("s");
    let provider = backend.client();
    let held = register(&provider, instance("a")).await;
    until(&watcher, "a", |s| is_live(s, &["a"])).await;
    backend.kill().await;
    drop((held, provider));
    backend.wipe();
    backend.start_again().await;
    throughout(&watcher, GRACE * 2, "a", |s| ids(s) == ["a"]).await;
    until(&watcher, "a, stale", |s| is_stale(s) && s.fault.is_some()).await;
    let _b = register(&backend.client(), instance("b")).await;
    until(&watcher, "b", |s| is_live(s, &["b"])).await;
}

/// An outage, and who starts in it.
pub async fn while_the_registry_is_gone_the_last_list_stays_and_registering_goes_on<B: Backend>() {
    let mut backend = B::start().await;
    let (provider, consumer) = (backend.client(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let _a = register(&provider, instance("a")).await;
    until(&watcher, "a", |s| is_live(s, &["a"])).await;
    backend.kill().await;
    until(&watcher, "stale", is_stale).await;
    let late = backend.client();
    let b = register(&late, instance("b")).await;
    throughout(&watcher, LEASE * 2, "a, stale", |s| is_stale(s) && ids(s) == ["a"]).await;
    let started = late.discovery.watch("s");
    assert_eq!(started.current().state, State::Pending);
    backend.start_again().await;
    until(&watcher, "a and b", |s| is_live(s, &["a", "b"])).await;
    until(&started, "a and b", |s| is_live(s, &["a", "b"])).await;
    b.deregister(&cx()).await.unwrap();
    until(&watcher, "a alone", |s| is_live(s, &["a"])).await;
}

/// A server that neither answers nor breaks connections.
pub async fn a_registry_that_hangs_makes_the_list_stale<B: Backend>() {
    let backend = B::start().await;
    let (provider, consumer) = (backend.client(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let _a = register(&provider, instance("a")).await;
    until(&watcher, "a", |s| is_live(s, &["a"])).await;
    backend.pause().await;
    let stale = until(&watcher, "stale", is_stale).await;
    assert_eq!(ids(&stale), ["a"]);
    backend.resume();
    until(&watcher, "a again", |s| is_live(s, &["a"])).await;
    throughout(&watcher, LEASE * 2, "a", |s| ids(s) == ["a"]).await;
}

/// Two with one id.
pub async fn the_later_holder_of_an_id_has_it<B: Backend>() {
    let backend = B::start().await;
    let (first, second, consumer) = (backend.client(), backend.client(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let heavy = |weight| Instance { weight, ..instance("a") };
    let has = |weight| move |s: &Snapshot| s.instances.len() == 1 && s.instances[0].weight == weight;
    let one = register(&first, heavy(1)).await;
    until(&watcher, "the first", has(1)).await;
    let two = register(&second, heavy(2)).await;
    until(&watcher, "the second", has(2)).await;
    // The first one notices, and does not take it back while the second one lives.
    throughout(&watcher, LEASE * 3, "the second", has(2)).await;
    two.deregister(&cx()).await.unwrap();
    until(&watcher, "the first again", has(1)).await;
    let three = register(&second, heavy(3)).await;
    until(&watcher, "the third", has(3)).await;
    one.deregister(&cx()).await.unwrap();
    throughout(&watcher, LEASE, "the third", has(3)).await;
    three.deregister(&cx()).await.unwrap();
    until(&watcher, "nobody", |s| s.instances.is_empty()).await;
}

/// Many.
pub async fn many_instances_come_stay_and_go<B: Backend>() {
    let (backend, many) = (B::start().await, usize::from(B::MANY));
    let (provider, consumer) = (backend.client_for_a_crowd(), backend.client());
    let watcher = consumer.discovery.watch("s");
    let all = (0..B::MANY).map(|n| register(&provider, instance(&format!("i-{n:04}"))));
    let all = join_all(all).await;
    until(&watcher, "all of them", |s| s.state == State::Live && s.instances.len() == many).await;
    throughout(&watcher, LEASE * 2, "all of them", |s| s.instances.len() == many).await;
    let late = backend.client();
    let fresh = late.discovery.watch("s");
    until(&fresh, "all of them", |s| s.instances.len() == many).await;
    let context = cx();
    for gone in join_all(all.iter().map(|registration| registration.deregister(&context))).await {
        gone.unwrap();
    }
    until(&watcher, "nobody, removed", |s| s.state == State::Empty(Emptiness::Cancelled)).await;
}

/// A watch that breaks in the middle.
pub async fn what_changed_while_a_connection_was_lost_is_seen_after_it<B: Backend>() {
    let backend = B::start().await;
    let relay = Relay::to(&backend.address()).await.unwrap();
    let (provider, consumer) = (backend.client(), backend.client_at(&relay.address()));
    let watcher = consumer.discovery.watch("s");
    let a = register(&provider, instance("a")).await;
    let _b = register(&provider, instance("b")).await;
    until(&watcher, "a and b", |s| is_live(s, &["a", "b"])).await;
    relay.cut();
    let stale = until(&watcher, "stale", is_stale).await;
    assert_eq!(ids(&stale), ["a", "b"]);
    a.deregister(&cx()).await.unwrap();
    let _c = register(&provider, instance("c")).await;
    relay.mend();
    until(&watcher, "b and c", |s| is_live(s, &["b", "c"])).await;
    // And it follows on.
    let _d = register(&provider, instance("d")).await;
    until(&watcher, "b, c and d", |s| is_live(s, &["b", "c", "d"])).await;
}
