//! Nothing is lost while processes come, go and die.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that tells its figures"
)]

use std::time::Duration;

use bowline::prelude::*;
use bowline_tests_e2e::{App, Fleet, Load, Report, undisturbed};
use shop_api::interface::v1::{GetHomeRequest, GetItemRequest, shop_service};

/// Requests a second: few enough that ten processes in debug builds have time for them where others keep the machine busy, so that what is
/// lost was not shed.
const RATE: u32 = 100;
/// One home page, with its three services, among so many items.
const HOME_EVERY: usize = 10;

fn load(fleet: &Fleet) -> Load {
    Load::start(&fleet.target(App::Gateway), RATE, |cx, caller, number| async move {
        let shop = shop_service::Client::new(caller);
        if number % HOME_EVERY == 0 {
            let home = shop
                .get_home(&cx, GetHomeRequest { customer_id: "c-1".into(), ..Default::default() })
                .await?;
            return if home.degraded.is_empty() {
                Ok(())
            } else {
                Err(Error::unavailable(format!("without {}", home.degraded.join(", "))))
            };
        }
        let id = format!("item-{:04}", number % 400 + 1);
        shop.get_item(&cx, GetItemRequest { id, ..Default::default() }).await.map(drop)
    })
}

async fn fleet() -> Fleet {
    use App::{Catalog, Gateway, Inventory, Order, Shop};
    let fleet = Fleet::start(&[(Catalog, 2), (Inventory, 2), (Order, 2), (Shop, 2), (Gateway, 2)]).await;
    // Everybody has found everybody once a hundred requests in a row succeed.
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let warm_up = load(&fleet);
        while warm_up.answered() < 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let report = warm_up.finish().await;
        if report.failures.is_empty() {
            return fleet;
        }
        assert!(tokio::time::Instant::now() < until, "the fleet does not settle: {report:?}");
    }
}

#[track_caller]
fn lossless(fleet: &Fleet, report: &Report, what: &str) {
    println!(
        "{what}: {} requests, {} failed, latest sent {:?} late",
        report.sent,
        report.sent - report.succeeded,
        report.behind
    );
    // What was lost is explained where it was: the logs go with the fleet.
    let code = |line: &str| report.failures.keys().any(|f| line.contains(f.split(' ').next().unwrap_or(f)));
    let told = |line: &&str| code(line) || line.contains("goes without a part");
    let logs = || {
        let logs = fleet.instances.iter().map(|i| (i.app, i.log()));
        let lines = |(app, log): (App, String)| {
            log.lines().filter(told).take(5).map(|line| format!("{app:?}: {line}")).collect::<Vec<_>>()
        };
        logs.flat_map(lines).collect::<Vec<_>>().join("\n")
    };
    assert!(report.failures.is_empty(), "{what}: {:#?}\n{}", report.failures, logs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarting_every_process_three_times_loses_no_request_with_and_without_the_registry() {
    let _alone = undisturbed().await;
    let mut fleet = fleet().await;
    let running = load(&fleet);
    running.more(100).await;
    for _ in 0..3 {
        for index in 1..fleet.instances.len() {
            fleet.instances[index].restart().await;
            // The next one goes once this one has served for a moment.
            running.more(100).await;
        }
    }
    lossless(&fleet, &running.finish().await, "three rounds");

    let running = load(&fleet);
    fleet.instances[0].kill().await;
    for index in 1..fleet.instances.len() {
        fleet.instances[index].restart().await;
        running.more(100).await;
    }
    lossless(&fleet, &running.finish().await, "a round without the registry");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_an_instance_fails_only_what_was_in_flight_on_it() {
    let _alone = undisturbed().await;
    let mut fleet = fleet().await;
    let running = load(&fleet);
    running.more(200).await;
    let victim = fleet.all(App::Catalog)[0];
    let in_flight = in_flight(&fleet, victim).await;
    fleet.instances[victim].kill().await;
    running.more(300).await;
    let report = running.finish().await;
    let failed = report.sent - report.succeeded;
    println!(
        "kill -9: {} requests, {failed} failed, {in_flight} were in flight a moment before",
        report.sent
    );
    // What is in flight when the signal arrives cannot be seen from outside; at this rate and this latency it is a handful.
    // Anything that is not about that would be a stream of failures: 150 requests a side went on after the kill.
    assert!(failed <= 10, "{:#?}", report.failures);
}

async fn in_flight(fleet: &Fleet, index: usize) -> usize {
    let (_, page) = fleet.instances[index].admin_page("/metrics").await.unwrap();
    let lines = page.lines().filter(|line| line.starts_with("bowline_server_in_flight"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map(|n| n as usize).sum()
}
