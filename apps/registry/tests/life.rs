//! Registering, watching and going away, when all is well.

mod common;

use std::time::Duration;

use bowline_core::{Context, InstanceStatus};
use bowline_discovery::{Discovery, Emptiness, Registrar, State};
use bowline_registry::Config;
use common::*;

#[tokio::test(start_paused = true)]
async fn what_is_registered_is_seen_as_it_was_registered_and_gone_once_deregistered() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (provider, consumer) = (link.client(), link.client());
    let watcher = consumer.watch("catalog");
    let mut registered = instance("catalog", "c-1");
    registered.weight = 0;
    registered.metadata.insert("color".into(), "blue".into());
    let cx = within(SEC);
    let registration = provider.register(&cx, registered.clone()).await.unwrap();
    let snapshot = until(&watcher, |s| s.state == State::Live).await;
    assert_eq!(*snapshot.instances[0], registered);
    registration.deregister(&cx).await.unwrap();
    registration.deregister(&cx).await.unwrap();
    let snapshot = until(&watcher, |s| s.instances.is_empty()).await;
    assert_eq!(snapshot.state, State::Empty(Emptiness::Cancelled));
    let error = registration.update(&cx, registered).await.unwrap_err();
    assert_eq!(error.code(), bowline_core::Code::FailedPrecondition);
}

/// What somebody sees who asks for the first time.
async fn client_of(link: &Link) -> State {
    let client = link.client();
    let watcher = client.watch("catalog");
    until(&watcher, |s| s.state != State::Pending).await.state
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_no_longer_renewed_expires_in_time() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (provider, consumer) = (link.client(), link.client());
    let watcher = consumer.watch("catalog");
    let registration = provider.register(&within(SEC), instance("catalog", "c-1")).await.unwrap();
    tokio::time::sleep(300 * SEC).await;
    assert_eq!(watcher.current().state, State::Live, "it is renewed for as long as it is held");
    drop(registration);
    let dropped = tokio::time::Instant::now();
    let snapshot = until(&watcher, |s| s.state != State::Live).await;
    assert_eq!(ids(&snapshot), ["c-1"], "the last one is kept, stale: nobody removed it");
    assert!(snapshot.fault.as_ref().unwrap().contains("have run out"), "{:?}", snapshot.fault);
    assert_eq!(client_of(&link).await, State::Empty(Emptiness::Expired), "who has known none is told why");
    let took = dropped.elapsed();
    assert!((19 * SEC..=30 * SEC).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_ones_own_is_renewed_in_its_own_time() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let provider = link.client_with(|o| o.ttl = Some(SEC));
    let registration = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    let registered = link.revision("s").await;
    tokio::time::sleep(60 * SEC).await;
    assert_eq!((running.node.stats().instances, link.revision("s").await), (1, registered));
    assert_eq!((link.calls("KeepAlive"), link.calls("Register")), (1, 0), "one stream does it all");
    drop(registration);
    tokio::time::sleep(2 * SEC).await;
    assert_eq!(running.node.stats().instances, 0);
}

#[tokio::test(start_paused = true)]
async fn many_instances_and_services_share_one_stream_each() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (provider, consumer) = (link.client(), link.client());
    let watchers: Vec<_> = (0..20).map(|n| consumer.watch(&format!("s{n}"))).collect();
    let mut registrations = Vec::new();
    for n in 0..20 {
        let instance = instance(&format!("s{n}"), "a");
        registrations.push(provider.register(&within(SEC), instance).await.unwrap());
    }
    for watcher in &watchers {
        until(watcher, |s| s.state == State::Live).await;
    }
    tokio::time::sleep(100 * SEC).await;
    assert_eq!(running.node.stats().instances, 20);
    assert_eq!((link.calls("KeepAlive"), link.calls("Watch")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_or_too_large_breaks_no_others_stream() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let provider = link.client();
    let _other = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    for (kib, reason) in [(200, "INVALID_INSTANCE"), (1000, "INVALID_INSTANCE"), (5000, "INVALID_ARGUMENT")] {
        let mut large = instance("s", "b");
        large.metadata.insert("all".into(), "x".repeat(kib << 10));
        let error = provider.register(&within(SEC), large).await.err().unwrap();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.is_invalid() && error.to_string().contains("bytes"), "{error}");
    }
    assert_eq!((running.node.stats().instances, link.calls("KeepAlive"), link.calls("Register")), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_update_is_seen_and_a_refused_one_leaves_what_was() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (provider, consumer) = (link.client(), link.client());
    let watcher = consumer.watch("s");
    let registered = instance("s", "a");
    let registration = provider.register(&within(SEC), registered.clone()).await.unwrap();

    let mut updated = registered.clone();
    updated.status = InstanceStatus::OutOfService;
    registration.update(&within(SEC), updated.clone()).await.unwrap();
    until(&watcher, |s| s.instances.iter().any(|i| **i == updated)).await;

    let mut refused = registered.clone();
    refused.metadata.insert("large".into(), "x".repeat(100_000));
    let error = registration.update(&within(SEC), refused).await.unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("bytes"), "{error}");
    let error = registration.update(&within(SEC), instance("s", "b")).await.unwrap_err();
    assert!(error.is_invalid(), "{error}");

    tokio::time::sleep(100 * SEC).await;
    assert_eq!(*watcher.current().instances[0], updated);
    let again = instance("s", "a");
    registration.update(&within(SEC), again.clone()).await.unwrap();
    until(&watcher, |s| s.instances.iter().any(|i| **i == again)).await;
}

#[tokio::test(start_paused = true)]
async fn a_malformed_instance_is_refused_at_once_with_the_reason() {
    let running = Running::start(Config::default());
    let provider = Link::to(&running).client();
    let started = tokio::time::Instant::now();
    let refused = provider.register(&within(60 * SEC), instance("s", "a b")).await;
    let error = refused.err().unwrap();
    assert!(error.is_invalid() && error.message().contains("is no instance id"), "{error}");
    assert_eq!(error.reason(), "INVALID_NAME");
    assert!(started.elapsed() < SEC);
}

#[tokio::test(start_paused = true)]
async fn a_second_process_with_the_same_id_takes_it_over_and_the_first_waits_in_line() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (first, second, consumer) = (link.client(), link.client(), link.client());
    let watcher = consumer.watch("s");
    let version = |v: &str| {
        let mut instance = instance("s", "a");
        instance.version = v.into();
        instance
    };
    let _first = first.register(&within(SEC), version("1")).await.unwrap();
    let of_second = second.register(&within(SEC), version("2")).await.unwrap();
    until(&watcher, |s| s.instances.iter().any(|i| i.version == "2")).await;
    let revision = watcher.current().revision;
    tokio::time::sleep(120 * SEC).await;
    assert_eq!(watcher.current().revision, revision, "they do not fight");
    of_second.deregister(&within(SEC)).await.unwrap();
    until(&watcher, |s| s.instances.iter().any(|i| i.version == "1")).await;
}

#[tokio::test(start_paused = true)]
async fn environments_and_namespaces_do_not_see_each_other() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let prod = link.client_with(|o| o.env = "prod".into());
    let other = link.client_with(|o| (o.env, o.namespace) = ("prod".into(), "team-b".into()));
    let base = link.client();
    let watchers = [prod.watch("s"), other.watch("s"), base.watch("s")];
    let _held = prod.register(&within(SEC), instance("s", "a")).await.unwrap();
    let snapshot = until(&watchers[0], |s| s.state == State::Live).await;
    assert_eq!(snapshot.instances[0].env, "prod");
    // The others get their definite answers without it.
    for watcher in &watchers[1..] {
        let snapshot = until(watcher, |s| s.state.is_ready()).await;
        assert_eq!(snapshot.state, State::Empty(Emptiness::Unknown));
    }
}

#[tokio::test(start_paused = true)]
async fn watching_nonsense_says_so_and_too_much_is_refused() {
    let running = Running::start(Config::default());
    let consumer = Link::to(&running).client_with(|o| o.max_services = 1);
    let fault = |watcher: bowline_discovery::Watcher| watcher.current().fault.clone();
    assert!(fault(consumer.watch("a/b")).unwrap().contains("is no service"));
    let first = consumer.watch("a");
    until(&first, |s| s.state.is_ready()).await;
    let second = consumer.watch("b");
    eventually(|| second.current().fault.as_deref().is_some_and(|f| f.contains("`max_services`"))).await;
    assert!(first.current().state.is_current());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_nobody_watches_any_more_is_not_followed_any_more() {
    let running = Running::start(Config::default());
    let consumer = Link::to(&running).client();
    let watcher = consumer.watch("a");
    until(&watcher, |s| s.state.is_ready()).await;
    assert_eq!(running.node.stats().watchers, 1);
    drop(watcher);
    eventually(|| running.node.stats().watchers == 0).await;
    let watcher = consumer.watch("a");
    until(&watcher, |s| s.state.is_ready()).await;
}

#[tokio::test(start_paused = true)]
async fn registrations_outlive_the_adapter_that_made_them() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let provider = link.client();
    let registration = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    drop(provider);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(running.node.stats().instances, 1);
    registration.deregister(&Context::background()).await.unwrap();
    assert_eq!(running.node.stats().instances, 0);
}
