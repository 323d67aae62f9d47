//! What becomes of registrations and watchers when the registry is gone, restarts, or loses messages.

mod common;

use std::sync::Arc;

use bowline_core::Context;
use bowline_discovery::{Discovery, DiskSnapshots, Emptiness, Registrar, State};
use bowline_registry::Config;
use common::*;

fn is_stale(state: &State) -> bool {
    matches!(state, State::Stale { .. })
}

#[tokio::test(start_paused = true)]
async fn while_the_registry_is_gone_the_last_list_stays_and_once_back_it_is_live() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (provider, consumer) = (link.client(), link.client());
    let watcher = consumer.watch("s");
    let _held = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    until(&watcher, |s| s.state == State::Live).await;
    for gone in [SEC, 15 * SEC, 3600 * SEC] {
        link.cut();
        let snapshot = until(&watcher, |s| is_stale(&s.state)).await;
        assert_eq!(ids(&snapshot), ["a"]);
        tokio::time::sleep(gone).await;
        assert_eq!(ids(&watcher.current()), ["a"]);
        assert!(watcher.current().fault.as_deref().is_some_and(|f| f.contains("refused")));
        link.connect(&running);
        until(&watcher, |s| s.state == State::Live && ids(s) == ["a"]).await;
        let registered = tokio::time::Instant::now();
        eventually(|| running.node.stats().instances == 1).await;
        assert!(registered.elapsed() <= 10 * SEC);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_who_is_alive_comes_back_and_who_is_not_stays_for_a_grace_only() {
    let running = Running::start(Config::default());
    let (link, doomed, consumers) = (Link::to(&running), Link::to(&running), Link::to(&running));
    let (alive, dead, consumer) = (link.client(), doomed.client(), consumers.client());
    let watcher = consumer.watch("s");
    let _alive = alive.register(&within(SEC), instance("s", "alive")).await.unwrap();
    let _dead = dead.register(&within(SEC), instance("s", "dead")).await.unwrap();
    until(&watcher, |s| ids(s) == ["alive", "dead"]).await;

    let restarted = Running::start(Config::default());
    assert_ne!(running.node.epoch(), restarted.node.epoch());
    for link in [&link, &doomed, &consumers] {
        link.cut();
    }
    drop(running);
    // The consumer is back before anybody has registered again: the worst case.
    consumers.connect(&restarted);
    let fault = || watcher.current().fault.as_deref().is_some_and(|f| f.contains("has restarted"));
    eventually(fault).await;
    assert!(is_stale(&watcher.current().state), "{watcher:?}");
    assert_eq!(ids(&watcher.current()), ["alive", "dead"]);
    let back = tokio::time::Instant::now();

    link.connect(&restarted);
    eventually(|| restarted.node.stats().instances == 1).await;
    assert!(back.elapsed() < SEC, "{:?}", back.elapsed());
    assert_eq!(ids(&watcher.current()), ["alive", "dead"]);
    let snapshot = until(&watcher, |s| s.state == State::Live).await;
    assert_eq!(ids(&snapshot), ["alive"]);
    assert!((29 * SEC..31 * SEC).contains(&back.elapsed()), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_goes_in_the_new_life_of_the_registry_is_not_kept_for_the_grace() {
    let running = Running::start(Config::default());
    let (link, consumers) = (Link::to(&running), Link::to(&running));
    let (provider, consumer) = (link.client(), consumers.client());
    let watcher = consumer.watch("s");
    let a = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    let _b = provider.register(&within(SEC), instance("s", "b")).await.unwrap();
    until(&watcher, |s| ids(s) == ["a", "b"]).await;
    let restarted = Running::start(Config::default());
    consumers.cut();
    link.cut();
    link.connect(&restarted);
    eventually(|| restarted.node.stats().instances == 2).await;
    a.deregister(&within(SEC)).await.unwrap();
    // The consumer was away when that was said.
    consumers.connect(&restarted);
    let snapshot = until(&watcher, |s| s.state == State::Live).await;
    assert_eq!(ids(&snapshot), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_told_when_to_come_back_comes_no_sooner_and_then_it_does() {
    let mut config = Config::default();
    config.limits.watchers = 1;
    let running = Running::start(config);
    let (link, first, second) = (Link::to(&running), Link::to(&running), Link::to(&running));
    let _held = link.client().register(&within(SEC), instance("s", "a")).await.unwrap();
    let consumer = first.client();
    let only = consumer.watch("s");
    until(&only, |s| s.state == State::Live).await;
    let refused = second.client();
    let watcher = refused.watch("s");
    eventually(|| second.calls("Watch") == 1).await;
    // The registry says 5 s; by its backoff alone it would have come several times by now.
    tokio::time::sleep(4 * SEC).await;
    assert_eq!(second.calls("Watch"), 1);
    assert!(watcher.current().fault.as_deref().is_some_and(|f| f.contains("watchers")), "{watcher:?}");
    first.cut();
    until(&watcher, |s| s.state == State::Live).await;
    assert_eq!(second.calls("Watch"), 2);
}

#[tokio::test(start_paused = true)]
async fn changes_missed_while_away_arrive_even_when_they_are_too_many_for_the_log() {
    let mut config = Config::default();
    config.limits.changes_kept = 3;
    let running = Running::start(config);
    let (link, consumers) = (Link::to(&running), Link::to(&running));
    let (provider, consumer) = (link.client(), consumers.client());
    let watcher = consumer.watch("s");
    let cx = Context::background();
    let mut held = vec![provider.register(&cx, instance("s", "a0")).await.unwrap()];
    until(&watcher, |s| ids(s) == ["a0"]).await;
    for changes in [1, 2, 9] {
        consumers.cut();
        until(&watcher, |s| is_stale(&s.state)).await;
        for n in 0..changes {
            let id = format!("b{changes}-{n}");
            held.push(provider.register(&cx, instance("s", &id)).await.unwrap());
        }
        held.remove(0).deregister(&cx).await.unwrap();
        consumers.connect(&running);
        let count = held.len();
        let snapshot = until(&watcher, |s| s.state == State::Live && s.instances.len() == count).await;
        assert!(ids(&snapshot).contains(&format!("b{changes}-0")));
    }
}

#[tokio::test(start_paused = true)]
async fn deregistering_while_the_registry_is_gone_is_bounded_and_nothing_comes_back() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let provider = link.client();
    let registration = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    link.cut();
    let started = tokio::time::Instant::now();
    let error = registration.deregister(&within(SEC)).await.unwrap_err();
    assert!(error.is_timeout() && error.message().contains("connection refused"), "{error}");
    assert!(started.elapsed() < 2 * SEC);
    link.connect(&running);
    // It goes on trying for as long as there may be something to take out.
    eventually(|| running.node.stats().instances == 0).await;
    assert!(started.elapsed() < 15 * SEC, "{:?}", started.elapsed());
    registration.deregister(&within(SEC)).await.unwrap();
    let left = link.revision("s").await;
    tokio::time::sleep(120 * SEC).await;
    assert_eq!((running.node.stats().instances, link.revision("s").await), (0, left));
}

#[tokio::test(start_paused = true)]
async fn deregistering_just_as_the_registry_comes_back_is_confirmed() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let provider = link.client();
    let registration = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    link.cut();
    let restarted = Running::start(Config::default());
    let cx = within(20 * SEC);
    let back = async {
        tokio::time::sleep(2 * SEC).await;
        link.connect(&restarted);
    };
    let (result, ()) = tokio::join!(registration.deregister(&cx), back);
    result.unwrap();
    tokio::time::sleep(60 * SEC).await;
    assert_eq!(restarted.node.stats().instances, 0);
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_given_up_leaves_nothing_behind() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let provider = link.client();
    link.lose();
    let error = provider.register(&within(2 * SEC), instance("s", "a")).await.err().unwrap();
    assert!(error.is_timeout() && error.message().contains("`a` of `s`"), "{error}");
    link.connect(&running);
    eventually(|| link.calls("Deregister") > 0).await;
    tokio::time::sleep(60 * SEC).await;
    assert_eq!(running.node.stats().instances, 0);
}

#[tokio::test(start_paused = true)]
async fn registering_goes_on_in_the_background_while_the_registry_is_down() {
    let link = Link::default();
    let provider = link.client();
    let running = Running::start(Config::default());
    let before = tokio::time::Instant::now();
    let _held = provider.register(&within(60 * SEC), instance("s", "a")).await.unwrap();
    assert_eq!(before.elapsed(), 3 * SEC, "a service is not kept from starting for longer");
    assert_eq!(running.node.stats().instances, 0);
    link.connect(&running);
    eventually(|| running.node.stats().instances == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_swallows_renewals_is_left_for_another() {
    let (stuck, well) = (Running::start(Config::default()), Running::start(Config::default()));
    let (first, second) = (Link::to(&stuck), Link::to(&well));
    let nodes = [first.caller(), second.caller()];
    let rng = Arc::new(Zero);
    let clock = Arc::new(bowline_core::SystemClock);
    let provider =
        bowline_registry_bowline::BowlineRegistry::with(nodes, Default::default(), clock, rng).unwrap();
    let _held = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    assert_eq!(stuck.node.stats().instances, 1);
    first.lose();
    // New streams are lost; the one that is open breaks.
    stuck.node.close();
    eventually(|| well.node.stats().instances == 1).await;
    eventually(|| stuck.node.stats().instances == 0).await;
}

/// The least random of all.
struct Zero;

impl bowline_core::Rng for Zero {
    fn next_u64(&self) -> u64 {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_has_just_started_is_not_believed_to_know_that_there_is_nobody() {
    let running = Running::start(Config::default());
    let consumer = Link::to(&running).client();
    let watcher = consumer.watch("s");
    let started = tokio::time::Instant::now();
    let snapshot = until(&watcher, |s| s.state.is_ready()).await;
    assert_eq!(snapshot.state, State::Empty(Emptiness::Unknown));
    assert!((29 * SEC..31 * SEC).contains(&started.elapsed()), "{:?}", started.elapsed());
    let at_once = consumer.watch("t");
    let asked = tokio::time::Instant::now();
    until(&at_once, |s| s.state.is_ready()).await;
    assert!(asked.elapsed() < SEC, "a registry that has settled is believed at once");
}

#[tokio::test]
async fn a_process_that_starts_with_a_registry_that_lost_everything_lives_from_its_disk() {
    let directory = tempfile::tempdir().unwrap();
    let disk = |link: &Link| {
        let grace = std::time::Duration::from_millis(300);
        let inner = Arc::new(link.client_with(|o| o.grace = grace));
        DiskSnapshots::open(inner, directory.path()).unwrap()
    };
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let provider = link.client();
    let _held = provider.register(&within(SEC), instance("s", "a")).await.unwrap();
    let before = disk(&link);
    until(&before.watch("s"), |s| s.state == State::Live).await;
    let written = || {
        directory.path().read_dir().unwrap().any(|f| f.unwrap().path().extension() == Some("json".as_ref()))
    };
    eventually(written).await;
    drop(before);

    let restarted = Running::start(Config::default());
    let link = Link::to(&restarted);
    let after = disk(&link);
    let watcher = after.watch("s");
    let snapshot = until(&watcher, |s| s.state.is_ready()).await;
    assert!(matches!(snapshot.state, State::Disk { .. }), "{snapshot:?}");
    assert_eq!(ids(&snapshot), ["a"]);
    until(&watcher, |s| s.state == State::Empty(Emptiness::Unknown)).await;
}

#[tokio::test(start_paused = true)]
async fn after_an_hour_without_a_registry_everybody_comes_back_and_not_all_at_once() {
    const PROCESSES: usize = 200;
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let consumer = link.client();
    let watcher = consumer.watch("s");
    let providers: Vec<_> = (0..PROCESSES).map(|_| link.client()).collect();
    let mut held = Vec::new();
    for (n, provider) in providers.iter().enumerate() {
        held.push(provider.register(&within(SEC), instance("s", &format!("i{n}"))).await.unwrap());
    }
    until(&watcher, |s| s.instances.len() == PROCESSES).await;
    link.cut();
    drop(running);
    tokio::time::sleep(3600 * SEC).await;
    let snapshot = watcher.current();
    assert!(is_stale(&snapshot.state) && snapshot.instances.len() == PROCESSES);

    let running = Running::start(Config::default());
    link.connect(&running);
    let (mut before, mut most) = (0, 0);
    while before < PROCESSES {
        tokio::time::sleep(SEC / 2).await;
        let back = running.node.stats().instances;
        (before, most) = (back, most.max(back - before));
        assert_eq!(watcher.current().instances.len(), PROCESSES, "nobody is taken out meanwhile");
    }
    assert!(most <= PROCESSES / 4, "{most} of {PROCESSES} came back within half a second");
    until(&watcher, |s| s.state == State::Live && s.instances.len() == PROCESSES).await;
}
