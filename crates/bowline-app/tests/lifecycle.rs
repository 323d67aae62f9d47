//! The order of a life, and a failure at each step of it.

mod support;

use std::time::Duration;

use bowline_app::{App, Handle, Lifecycle, State};
use bowline_core::{Code, Endpoint, Instance};
use support::{Act, Listener, Scenario, Store, after_start, assert_told_once};
use tokio::time::Instant;

/// What a case makes different.
type Change = fn(&mut Scenario);

const STOPPED: [&str; 6] =
    ["unready http", "deregister", "drain http", "background done", "close cache", "close db"];

#[tokio::test(start_paused = true)]
async fn a_life_goes_through_every_step_in_order() {
    let scenario = Scenario::new();
    let memory = scenario.registry.memory.clone();
    let before = Instant::now();
    let check = |handle: &Handle| {
        assert_eq!(memory.registered(), [(*handle.instance()).clone()]);
        assert_eq!(handle.instance().endpoints, [Endpoint::http("127.0.0.1", 8000)]);
        handle.shutdown();
    };
    scenario.run(check).await.unwrap();
    scenario.assert_events(&after_start(&STOPPED));
    assert_eq!(
        before.elapsed(),
        Duration::from_millis(2_500),
        "propagation, then half a second of background work"
    );
}

#[tokio::test(start_paused = true)]
async fn the_state_goes_forward_and_can_be_watched() {
    let app = Scenario::new().app();
    let handle = app.handle();
    assert_eq!(handle.state(), State::New);
    let mut watch = handle.watch_state();
    let observe = async {
        let mut seen = vec![State::New];
        while seen.last() != Some(&State::Stopped) {
            watch.changed().await.unwrap();
            let state = *watch.borrow_and_update();
            seen.push(state);
            if state == State::Running {
                handle.shutdown();
            }
        }
        seen
    };
    let (outcome, seen) = tokio::join!(app.run_until(std::future::pending()), observe);
    outcome.unwrap();
    assert!(
        seen.is_sorted() && seen.contains(&State::Running) && seen.contains(&State::Propagating),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_does_not_open_closes_those_before_it() {
    let scenario = Scenario { open: [Act::Succeed, Act::Fail("disk full")], ..Scenario::new() };
    let error = scenario.fail().await;
    assert_eq!(error.to_string(), "opening resource `cache`: disk full");
    assert_eq!(error.code(), Code::Unavailable);
    scenario.assert_events(&["open db", "open cache", "close db"]);
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_was_given_open_is_closed_even_if_its_turn_never_came() {
    let scenario = Scenario { open: [Act::Fail("disk full"); 2], ..Scenario::new() };
    let late = Store { name: "late", log: scenario.log.clone(), close: Act::Succeed };
    let error = scenario.app().own(late).run_until(std::future::pending()).await.unwrap_err();
    assert_told_once(&error, "disk full");
    scenario.assert_events(&["open db", "close late"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_bind_takes_back_those_that_did() {
    let scenario = Scenario::new();
    let mut second = Listener::new("admin", &scenario.log);
    second.bind = Act::Fail("port 7000 is taken");
    let error = scenario.app().server(second).run_until(std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), "binding server `admin`: port 7000 is taken");
    scenario.assert_events(&[
        "open db",
        "open cache",
        "bind http",
        "bind admin",
        "abort http",
        "close cache",
        "close db",
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_that_fails_stops_the_servers_that_were_never_ready() {
    let scenario = Scenario { warm_up: Act::Fail("no prices"), ..Scenario::new() };
    let error = scenario.fail().await;
    assert_eq!(error.to_string(), "warming up `prices`: no prices");
    let stopped = ["warm up", "drain http", "close cache", "close db"];
    scenario.assert_events(&[&["open db", "open cache", "bind http", "serve http"], &stopped[..]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_fails_unwinds_without_waiting_for_consumers() {
    let mut scenario = Scenario::new();
    scenario.registry.register = Act::Fail("registry down");
    let before = Instant::now();
    let error = scenario.fail().await;
    assert_told_once(&error, "registry down");
    assert!(error.to_string().starts_with("registering `catalog-"), "{error}");
    scenario.assert_events(&after_start(&[
        "unready http",
        "drain http",
        "background done",
        "close cache",
        "close db",
    ]));
    assert_eq!(before.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_never_answers_is_given_up_at_its_bound() {
    for (act, seconds) in [(Act::Wait, 10), (Act::Hang, 11)] {
        let mut scenario = Scenario::new();
        scenario.registry.register = act;
        let before = Instant::now();
        let error = scenario.fail().await;
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(before.elapsed(), Duration::from_millis(seconds * 1_000 + 500));
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_endpoint_to_advertise_registering_is_refused_with_the_mend() {
    let registry = support::Registry::default();
    let app = App::new("catalog").registrar(std::sync::Arc::new(registry.clone()));
    let error = app.run_until(std::future::pending()).await.unwrap_err();
    assert!(error.message().contains("no server advertises an endpoint; add a server"), "{error}");
    assert!(registry.log.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_crashes_later_stops_everything_and_is_the_root_cause() {
    for (act, cause) in [
        (Act::Fail("accept failed"), "server `http` crashed: accept failed"),
        (Act::Succeed, "server `http` ended by itself"),
        (Act::Panic, "server `http` crashed: panicked: boom"),
    ] {
        let mut scenario = Scenario::new();
        scenario.server.crash = act;
        // What fails after it is not the root cause.
        scenario.close = [Act::Fail("cannot flush"); 2];
        let error = scenario.run(|_| scenario.server.crashing.notify_one()).await.unwrap_err();
        assert_eq!(error.to_string(), cause);
        // The crashed server is neither told nor drained, and nobody is left to serve while the news spreads.
        scenario.assert_events(&after_start(&[
            "crash http",
            "deregister",
            "background done",
            "close cache",
            "close db",
        ]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_drains_the_servers_that_still_serve() {
    let mut scenario = Scenario::new();
    scenario.server.crash = Act::Fail("accept failed");
    let admin = Listener::new("admin", &scenario.log);
    let app = scenario.app().server(admin);
    let handle = app.handle();
    let crash = async {
        handle.running().await;
        scenario.server.crashing.notify_one();
        std::future::pending().await
    };
    assert_told_once(&app.run_until(crash).await.unwrap_err(), "accept failed");
    let events = scenario.log.events();
    let stopped = [
        "crash http",
        "unready admin",
        "deregister",
        "drain admin",
        "background done",
        "close cache",
        "close db",
    ];
    assert_eq!(events[events.len() - stopped.len()..], stopped);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_cannot_be_told_does_not_hold_up_the_stop() {
    for (act, millis) in [(Act::Fail("registry down"), 2_500), (Act::Wait, 5_500), (Act::Hang, 6_500)] {
        let mut scenario = Scenario::new();
        scenario.registry.deregister = act;
        let before = Instant::now();
        scenario.run(Handle::shutdown).await.unwrap();
        scenario.assert_events(&after_start(&STOPPED));
        assert_eq!(before.elapsed(), Duration::from_millis(millis));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_past_its_deadline_is_cut_off_by_design() {
    for act in [Act::Wait, Act::Hang] {
        let mut scenario = Scenario::new();
        scenario.server.drain = act;
        let before = Instant::now();
        scenario.run(Handle::shutdown).await.unwrap();
        scenario.assert_events(&after_start(&[
            "unready http",
            "deregister",
            "drain http",
            "background done",
            "abort http",
            "close cache",
            "close db",
        ]));
        assert_eq!(before.elapsed(), Duration::from_secs(22));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_fails_is_a_failure() {
    let mut scenario = Scenario::new();
    scenario.server.drain = Act::Fail("socket gone");
    let error = scenario.run(Handle::shutdown).await.unwrap_err();
    assert_eq!(error.to_string(), "draining server `http`: socket gone");
    assert!(
        scenario.log.events().ends_with(&["background done", "close cache", "close db"].map(String::from))
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_end_after_all_is_dropped() {
    let mut scenario = Scenario::new();
    (scenario.server.drain, scenario.server.abort) = (Act::Hang, Act::Hang);
    let before = Instant::now();
    scenario.run(Handle::shutdown).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(23));
    assert!(scenario.log.events().ends_with(&["abort http", "close cache", "close db"].map(String::from)));
}

#[tokio::test(start_paused = true)]
async fn a_background_task_that_never_ends_is_dropped_at_its_bound_and_named() {
    let scenario = Scenario { background: Act::Hang, ..Scenario::new() };
    let before = Instant::now();
    let error = scenario.run(Handle::shutdown).await.unwrap_err();
    assert!(
        error.is_timeout() && error.message().contains("background tasks `refresh` were dropped"),
        "{error}"
    );
    scenario.assert_events(&after_start(&[
        "unready http",
        "deregister",
        "drain http",
        "close cache",
        "close db",
    ]));
    assert_eq!(before.elapsed(), Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_does_not_close_is_given_up_and_the_next_one_closed() {
    for (act, millis) in [(Act::Fail("cannot flush"), 2_500), (Act::Wait, 7_500), (Act::Hang, 8_500)] {
        let scenario = Scenario { close: [Act::Succeed, act], ..Scenario::new() };
        let before = Instant::now();
        let error = scenario.run(Handle::shutdown).await.unwrap_err();
        assert!(error.to_string().starts_with("closing resource `cache`"), "{error}");
        scenario.assert_events(&after_start(&STOPPED));
        assert_eq!(before.elapsed(), Duration::from_millis(millis));
    }
}

#[tokio::test(start_paused = true)]
async fn every_start_step_has_a_bound() {
    let bounds: [(Change, u64); 4] = [
        (|s| s.open[0] = Act::Hang, 31),
        (|s| s.server.bind = Act::Hang, 31),
        (|s| s.warm_up = Act::Hang, 31),
        (|s| s.open[0] = Act::Wait, 30),
    ];
    for (change, seconds) in bounds {
        let mut scenario = Scenario::new();
        change(&mut scenario);
        let before = Instant::now();
        let error = scenario.fail().await;
        assert!(error.is_timeout() && error.to_string().contains("within 30s (lifecycle."), "{error:?}");
        assert_eq!(before.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_any_hook_is_a_failure_of_that_hook_and_unwinds_like_one() {
    let panics: [(Change, &str, &[&str]); 8] = [
        (|s| s.open[1] = Act::Panic, "opening resource `cache`", &["close db"]),
        (|s| s.server.bind = Act::Panic, "binding server `http`", &["close cache", "close db"]),
        (|s| s.warm_up = Act::Panic, "warming up `prices`", &["drain http", "close cache", "close db"]),
        (|s| s.server.ready = Act::Panic, "setting server `http` ready", &["unready http", "drain http"]),
        (|s| s.on_ready = Act::Panic, "running the hook `on_ready`", &["unready http", "drain http"]),
        (|s| s.registry.register = Act::Panic, "registering", &["unready http", "drain http"]),
        (|s| s.server.drain = Act::Panic, "draining server `http`", &["abort http"]),
        (|s| s.close[1] = Act::Panic, "closing resource `cache`", &["close cache", "close db"]),
    ];
    for (change, what, events) in panics {
        let mut scenario = Scenario::new();
        change(&mut scenario);
        let error = scenario.run(Handle::shutdown).await.unwrap_err();
        assert_eq!(error.reason(), "PANIC");
        assert!(error.to_string().starts_with(what), "{error}");
        assert_told_once(&error, "boom");
        let happened = scenario.log.events();
        let from = happened.iter().position(|e| e == events[0]).unwrap();
        let rest: Vec<_> = happened[from..].iter().filter(|e| events.contains(&e.as_str())).collect();
        assert_eq!(rest, events, "{what}");
        assert_eq!(happened.last().map(String::as_str), Some("close db"));
    }
    for change in [(|s| s.registry.deregister = Act::Panic) as Change, |s| s.background = Act::Panic] {
        let mut scenario = Scenario::new();
        change(&mut scenario);
        scenario.run(Handle::shutdown).await.unwrap();
        assert_eq!(scenario.log.events().last().map(String::as_str), Some("close db"));
    }
}

#[tokio::test(start_paused = true)]
async fn bounds_and_identity_are_what_they_are_set_to() {
    let scenario = Scenario::new();
    let lifecycle: Lifecycle = serde_json::from_str(r#"{ "propagation": "7s" }"#).unwrap();
    let instance = Instance::new("catalog", "pod-1").with_endpoint(Endpoint::http("outside", 80));
    let app = scenario.app().instance(instance.clone()).version("1.2").options(lifecycle);
    let handle = app.handle();
    let (before, memory) = (Instant::now(), scenario.registry.memory.clone());
    let check = async {
        handle.running().await;
        assert_eq!(memory.registered(), [Instance { version: "1.2".into(), ..instance }]);
    };
    app.run_until(check).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_millis(7_500));
}
