//! Being told to stop, at any time and more than once; and background work.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline_app::{App, Handle, Lifecycle, State, task::Tracker};
use bowline_core::{Code, Error, Result};
use support::{Act, Listener, Log, Scenario, after_start};
use tokio::time::Instant;

async fn within(seconds: u64, wait: impl Future<Output = ()>) {
    let done = tokio::time::timeout(Duration::from_secs(seconds), wait).await;
    assert!(done.is_ok(), "it happens within {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_before_it_runs_it_opens_nothing() {
    let scenario = Scenario::new();
    let app = scenario.app();
    app.handle().shutdown();
    app.run_until(std::future::pending()).await.unwrap();
    scenario.assert_events(&[]);
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_while_starting_it_unwinds_what_was_started_and_succeeds() {
    for act in [Act::Wait, Act::Hang, Act::SucceedLate] {
        let scenario = Scenario { warm_up: act, ..Scenario::new() };
        let (log, before) = (scenario.log.clone(), Instant::now());
        let warming_up = async {
            while log.events().last().map(String::as_str) != Some("warm up") {
                tokio::task::yield_now().await;
            }
        };
        scenario.app().run_until(warming_up).await.unwrap();
        assert!(
            scenario.log.events().ends_with(&["drain http", "close cache", "close db"].map(String::from))
        );
        assert!(before.elapsed() <= Duration::from_secs(1), "an interrupted step gets its grace and no more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_succeeds_while_it_is_interrupted_is_taken_back() {
    let mut scenario = Scenario::new();
    scenario.registry.register = Act::SucceedLate;
    let log = scenario.log.clone();
    let registering = async {
        while log.events().last().map(String::as_str) != Some("register") {
            tokio::task::yield_now().await;
        }
    };
    scenario.app().run_until(registering).await.unwrap();
    scenario.assert_events(&after_start(&[
        "unready http",
        "deregister",
        "drain http",
        "background done",
        "close cache",
        "close db",
    ]));
    assert!(scenario.registry.memory.registered().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_starting_is_the_root_cause() {
    let mut scenario = Scenario { warm_up: Act::Hang, ..Scenario::new() };
    scenario.server.crash = Act::Fail("accept failed");
    scenario.server.crashing.notify_one();
    let error = scenario.fail().await;
    assert_eq!(error.to_string(), "server `http` crashed: accept failed");
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_at_once_it_cuts_every_wait_short() {
    let slow: [fn(&mut Scenario); 5] = [
        |s| s.registry.deregister = Act::Hang,
        |_| {}, // propagation
        |s| s.server.drain = Act::Hang,
        |s| s.background = Act::Hang,
        |s| s.close = [Act::Hang; 2],
    ];
    for (n, change) in slow.into_iter().enumerate() {
        let mut scenario = Scenario::new();
        change(&mut scenario);
        let app = scenario.app();
        let handle = app.handle();
        let (before, watch) = (Instant::now(), handle.clone());
        let states =
            [State::Deregistering, State::Propagating, State::Draining, State::Finishing, State::Closing];
        let twice = async move {
            watch.running().await;
            watch.shutdown();
            let mut states_seen = watch.watch_state();
            within(60, async { drop(states_seen.wait_for(|s| *s >= states[n]).await) }).await;
            watch.abort();
            Instant::now()
        };
        let (outcome, aborted) = tokio::join!(app.run_until(std::future::pending()), twice);
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), Code::Canceled, "{error:?}");
        assert!(error.message().starts_with("told to stop at once"), "{error}");
        let took = before.elapsed() - (aborted - before);
        assert!(took <= Duration::from_secs(2), "{:?} took {took:?}", states[n]);
        let events = scenario.log.events();
        assert_eq!(events[events.len() - 2..], ["close cache", "close db"]);
        assert!(scenario.registry.memory.registered().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_at_once_after_a_failure_it_still_reports_the_failure() {
    let mut scenario = Scenario { background: Act::Hang, ..Scenario::new() };
    scenario.server.crash = Act::Fail("accept failed");
    let app = scenario.app();
    let handle = app.handle();
    let crash = async {
        handle.running().await;
        scenario.server.crashing.notify_one();
        drop(handle.watch_state().wait_for(|s| *s == State::Finishing).await);
        handle.abort();
    };
    let (outcome, ()) = tokio::join!(app.run_until(std::future::pending()), crash);
    assert_eq!(outcome.unwrap_err().to_string(), "server `http` crashed: accept failed");
}

#[tokio::test(start_paused = true)]
async fn servers_drain_at_the_same_time_and_are_made_unready_in_reverse() {
    let log = Log::default();
    let mut servers = [Listener::new("public", &log), Listener::new("admin", &log)];
    servers[0].drain = Act::Wait;
    servers[1].drain = Act::Wait;
    let [public, admin] = servers;
    let app = App::new("s").server(public).server(admin);
    let (handle, before) = (app.handle(), Instant::now());
    app.run_until(async move { handle.running().await }).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(22));
    let events = log.events();
    assert_eq!(events[6..10], ["unready admin", "unready public", "drain public", "drain admin"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_aborts_what_runs() {
    let scenario = Scenario::new();
    let app = scenario.app();
    let handle = app.handle();
    tokio::select! {
        _ = app.run_until(std::future::pending()) => panic!("it runs for ever"),
        () = handle.running() => {}
    }
    assert_eq!(scenario.log.events().last().map(String::as_str), Some("abort http"));
    assert_eq!(handle.state(), State::Stopped);
    assert!(scenario.registry.memory.registered().is_empty());
}

#[tokio::test(start_paused = true)]
async fn work_that_outlives_its_request_is_done_before_resources_close() {
    let scenario = Scenario::new();
    let log = scenario.log.clone();
    let work = move |handle: &Handle| {
        handle
            .background("mail", async move {
                tokio::time::sleep(Duration::from_secs(9)).await;
                log.add("mail sent");
                Ok(())
            })
            .unwrap();
        handle.shutdown();
    };
    scenario.run(work).await.unwrap();
    let events = scenario.log.events();
    assert_eq!(events[events.len() - 3..], ["mail sent", "close cache", "close db"]);
}

#[tokio::test(start_paused = true)]
async fn work_begun_while_finishing_is_waited_for_and_work_after_that_is_refused() {
    let app = App::new("s");
    let (handle, sent) = (app.handle(), Arc::new(AtomicUsize::new(0)));
    let (inner, count) = (handle.clone(), Arc::clone(&sent));
    handle
        .background("first", async move {
            inner.context().done().await;
            let count = Arc::clone(&count);
            inner.background("second", async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
        })
        .unwrap();
    let until = handle.clone();
    app.run_until(async move { until.running().await }).await.unwrap();
    assert_eq!(sent.load(Ordering::SeqCst), 1);
    let error = handle.background("late", async { Ok(()) }).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}

#[tokio::test(start_paused = true)]
async fn background_tasks_are_limited_and_their_places_are_given_back() {
    let lifecycle: Lifecycle = serde_json::from_str(r#"{ "background_limit": 2 }"#).unwrap();
    let app = App::new("s").options(lifecycle);
    let handle = app.handle();
    let check = async {
        handle.running().await;
        let until_told = |handle: &Handle| {
            let cx = handle.context().clone();
            handle.background("loop", async move { Err::<(), _>(cx.done().await) })
        };
        until_told(&handle).unwrap();
        handle.background("broken", async { Err(Error::internal("logged")) }).unwrap();
        let error = until_told(&handle).unwrap_err();
        assert!(error.message().contains("raise lifecycle.background_limit"), "{error}");
        within(1, async {
            while until_told(&handle).is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    app.run_until(check).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_a_task_of_another_owner() {
    let (tracker, app) = (Tracker::new(), Scenario::new().app());
    let handle = app.handle();
    tracker.spawn(async move {
        let _: Result<()> = app.run().await;
    });
    handle.running().await;
    handle.shutdown();
    within(60, tracker.wait()).await;
    assert_eq!(handle.state(), State::Stopped);
}
