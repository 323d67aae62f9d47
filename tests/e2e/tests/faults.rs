//! One of several instances goes wrong, and callers hardly notice; a tenant's requests go to its own instances.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that tells its figures"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline::client::{Channel, ChannelOptions, ClientPolicies};
use bowline::prelude::*;
use bowline::resilience::{ClientPolicy, Policies};
use bowline_tests_e2e::{App, Fleet, Instance, Load, Report, SlowDisk, undisturbed};
use shop_api::catalog::v1::catalog_service;
use shop_api::interface::v1::{GetItemRequest, shop_service};
use shop_api::inventory::v1::{Line, ReserveRequest, inventory_service};

const RATE: u32 = 200;

fn item(number: usize) -> GetItemRequest {
    GetItemRequest { id: format!("item-{:04}", number % 400 + 1), ..Default::default() }
}

fn load(fleet: &Fleet) -> Load {
    Load::start(&fleet.target(App::Shop), RATE, |cx, caller, number| async move {
        shop_service::Client::new(caller).get_item(&cx, item(number)).await.map(drop)
    })
}

/// Waits until each catalog gets requests.
async fn spread(fleet: &Fleet) {
    spread_by(fleet, load).await;
}

async fn spread_by(fleet: &Fleet, load: impl Fn(&Fleet) -> Load) {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let before = served(fleet).await;
        let warm_up = load(fleet);
        warm_up.more(100).await;
        let report = warm_up.finish().await;
        let after = served(fleet).await;
        if report.failures.is_empty() && before.iter().zip(&after).all(|(before, after)| after > before) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "the fleet does not settle: {report:?} {after:?}");
    }
}

fn catalogs(fleet: &Fleet) -> Vec<&Instance> {
    fleet.all(App::Catalog).into_iter().map(|i| &fleet.instances[i]).collect()
}

async fn served(fleet: &Fleet) -> Vec<u64> {
    let mut served = Vec::new();
    for catalog in catalogs(fleet) {
        served.push(catalog.calls("GetItem").await);
    }
    served
}

#[tokio::test]
async fn an_instance_that_stands_still_costs_hardly_a_request() {
    let _alone = undisturbed().await;
    let fleet = Fleet::start(&[(App::Catalog, 3), (App::Inventory, 1), (App::Shop, 1)]).await;
    spread(&fleet).await;
    let load = load(&fleet);
    load.more(300).await;
    catalogs(&fleet)[0].pause();
    load.more(2_000).await;
    catalogs(&fleet)[0].resume();
    load.more(300).await;
    let report = load.finish().await;
    let failed = report.sent - report.succeeded;
    println!("one of three stands still: {failed} of {} failed: {:?}", report.sent, report.failures);
    assert!(failed * 1_000 <= report.sent, "{report:?}");
}

/// Items by way of the gateway, straight from the catalog: nobody between them tries again.
fn load_of_the_gateway(fleet: &Fleet) -> Load {
    Load::start(&fleet.target(App::Gateway), RATE, |cx, caller, number| async move {
        let id = format!("item-{:04}", number % 400 + 1);
        let request = shop_api::catalog::v1::GetItemRequest { id, ..Default::default() };
        catalog_service::Client::new(caller).get_item(&cx, request).await.map(drop)
    })
}

/// What becomes of requests while one of three backends of a gateway stands still for ten seconds, and how often the gateway took
/// it out. A route's time is a second; its channel has these settings.
async fn one_of_three_backends_stands_still(balance: &str) -> (Report, f64) {
    let change = |instance: &mut Instance| {
        if instance.app == App::Gateway {
            let routes = instance.directory().join("routes.yaml");
            std::fs::write(
                &routes,
                "routes: [{ prefix: /shop.catalog.v1.CatalogService, service: \"discovery:///catalog\", timeout: 1s }]",
            )
            .unwrap();
            instance.environment.push(("GATEWAY__ROUTES".into(), routes.to_str().unwrap().into()));
            instance.settings = format!("service: {{ client: {{ balance: {balance} }} }}\n");
        }
    };
    let fleet = Fleet::start_with(&[(App::Catalog, 3), (App::Gateway, 1)], change).await;
    spread_by(&fleet, load_of_the_gateway).await;
    let gateway = fleet.one(App::Gateway);
    let load = load_of_the_gateway(&fleet);
    load.more(300).await;
    catalogs(&fleet)[0].pause();
    load.more(2_000).await;
    // Once out it is out for 30 s.
    let ejections = gateway.measured("bowline_client_ejections_total", &["discovery:///catalog"]).await;
    catalogs(&fleet)[0].resume();
    load.more(300).await;
    let report = load.finish().await;
    println!(
        "one of three behind the gateway stands still ({balance}): {} of {} failed, the last {:?} after the beginning, {ejections} ejections: {:?}",
        report.failed(),
        report.sent,
        report.last_failure,
        report.failures
    );
    assert!(
        report.failures.keys().all(|what| what.starts_with("DEADLINE_EXCEEDED ")),
        "{:?}",
        report.failures
    );
    let told = async |code: &str| {
        gateway.measured("bowline_client_calls_total", &[&format!("code=\"{code}\"")]).await
    };
    assert_eq!(told("DEADLINE_EXCEEDED").await as usize, report.failed(), "as its callers see it");
    assert_eq!(told("CANCELLED").await, 0.0, "nobody went away");
    (report, ejections)
}

#[tokio::test]
async fn a_backend_of_the_gateway_that_stands_still_costs_hardly_a_request() {
    let _alone = undisturbed().await;
    let (report, _) = one_of_three_backends_stands_still("{}").await;
    // Nobody tries again for who calls a gateway: a handful is in flight or sent before its silence shows.
    assert!(report.failed() * 100 <= report.sent, "{:?}", report.failures);
}

#[tokio::test]
async fn a_backend_that_stands_still_is_ejected_by_the_gateway_where_its_picker_would_not_avoid_it() {
    let _alone = undisturbed().await;
    let (report, ejections) = one_of_three_backends_stands_still("{ picker: weighted_round_robin }").await;
    assert!(ejections >= 1.0, "{:?}", report.failures);
    // Its third of two seconds, until the first ones' time is over and five in a row have ended so: else it were ten.
    assert!(report.failed() <= 2 * RATE as usize, "{:?}", report.failures);
}

/// Reservations at several inventories, each asked for no longer than that before another one is.
fn reservations(fleet: &Fleet, attempt: Duration) -> Load {
    let policy = ClientPolicy { attempt_timeout: Some(attempt), ..ClientPolicy::default() };
    let policies = Policies::new([("shop.inventory.v1.InventoryService".to_owned(), policy)]).unwrap();
    let options = ChannelOptions { policies: ClientPolicies::new(policies), ..ChannelOptions::default() };
    let channel = Channel::builder(fleet.target(App::Inventory)).options(options).build().unwrap();
    // Each reservation is a new one, in later loads too.
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    Load::through(&channel, RATE / 2, move |cx, caller, number| {
        let request = reservation(&format!("{run}-{number}"), number);
        async move { inventory_service::Client::new(caller).reserve(&cx, request).await.map(drop) }
    })
}

fn reservation(id: &str, number: usize) -> ReserveRequest {
    let item_id = format!("item-{:04}", number % 400 + 1);
    let line = Line { item_id, quantity: 1, ..Default::default() };
    ReserveRequest { reservation_id: id.into(), lines: vec![line], ..Default::default() }
}

/// How long one reservation takes at one instance.
async fn alone(instance: &Instance, id: &str) -> Duration {
    let channel = Channel::builder(format!("http://127.0.0.1:{}", instance.port)).build().unwrap();
    let client = inventory_service::Client::new(channel.caller().unwrap());
    let began = std::time::Instant::now();
    client.reserve(&Context::background(), reservation(id, 0)).await.unwrap();
    began.elapsed()
}

#[tokio::test]
async fn an_instance_whose_disk_is_slow_costs_hardly_a_request() {
    let _alone = undisturbed().await;
    let directory = tempfile::tempdir().unwrap();
    let disk = match SlowDisk::build(directory.path()) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no disk can be made slow here: {why}"),
    };
    let first = std::cell::Cell::new(true);
    let change = |instance: &mut Instance| {
        if instance.app == App::Inventory && first.replace(false) {
            instance.environment = disk.environment();
        }
    };
    let fleet = Fleet::start_with(&[(App::Inventory, 3)], change).await;
    let slow = fleet.one(App::Inventory);
    let attempt = Duration::from_millis(250);
    let before = reservations(&fleet, attempt).run_for(Duration::from_secs(4)).await;
    assert_eq!(before.failed(), 0, "{before:?}");

    let load = reservations(&fleet, attempt);
    load.more(300).await;
    disk.set(Duration::from_millis(100));
    load.more(1_000).await;
    let took = alone(slow, "while-it-is-slow").await;
    disk.set(Duration::ZERO);
    load.more(200).await;
    let report = load.finish().await;
    let late = |report: &Report| report.took.iter().filter(|took| **took > attempt).count();
    println!(
        "one of three writes slowly, {took:?} for a reservation: {} of {} failed, {} took more than {attempt:?}, p50 {:?}, p99 {:?} (before: p99 {:?}): {:?}",
        report.failed(),
        report.sent,
        late(&report),
        report.percentile(50.0),
        report.percentile(99.0),
        before.percentile(99.0),
        report.failures
    );
    assert!(took > attempt, "the disk is not slow: {took:?}");
    assert!(report.failed() * 1_000 <= report.sent, "{report:?}");
    assert!(late(&report) * 100 <= report.sent * 3, "{} of {}", late(&report), report.sent);
}

#[tokio::test]
async fn an_instance_that_dies_costs_no_request() {
    let _alone = undisturbed().await;
    let mut fleet = Fleet::start(&[(App::Catalog, 3), (App::Inventory, 1), (App::Shop, 1)]).await;
    spread(&fleet).await;
    let load = load(&fleet);
    load.more(300).await;
    let dying = fleet.all(App::Catalog)[0];
    fleet.instances[dying].kill().await;
    load.more(1_000).await;
    let report = load.finish().await;
    let failed = report.sent - report.succeeded;
    println!("one of three dies: {failed} of {} failed: {:?}", report.sent, report.failures);
    assert_eq!(failed, 0, "{report:?}");
}

#[tokio::test]
async fn a_colour_gets_its_own_requests_and_no_others() {
    let _alone = undisturbed().await;
    let mut fleet = Fleet::start(&[(App::Catalog, 2), (App::Inventory, 1), (App::Shop, 1)]).await;
    let red = fleet.all(App::Catalog)[1];
    fleet.instances[red].stop().await;
    fleet.instances[red].tenant = "red";
    fleet.instances[red].start();
    fleet.instances[red].ready().await;
    let channel = bowline::client::Channel::builder(fleet.target(App::Shop)).build().unwrap();
    let shop = shop_service::Client::new(channel.caller().unwrap());
    let cx = || Context::background().with_timeout(Duration::from_secs(10));
    let coloured = || cx().with_tenant(Tenant::new("red").unwrap());
    // The shop has heard of it once a coloured request arrives there.
    let heard = tokio::time::timeout(Duration::from_secs(30), async {
        while fleet.instances[red].calls("GetItem").await == 0 {
            shop.get_item(&coloured(), item(0)).await.unwrap();
        }
    });
    heard.await.expect("the coloured instance gets no requests");
    let before = served(&fleet).await;
    for number in 0..100 {
        shop.get_item(&cx(), item(number)).await.unwrap();
        if number % 4 == 0 {
            shop.get_item(&coloured(), item(number)).await.unwrap();
        }
    }
    let after = served(&fleet).await;
    assert_eq!((after[0] - before[0], after[1] - before[1]), (100, 25));
    // Where it is gone, the base serves its requests.
    fleet.instances[red].stop().await;
    for number in 0..20 {
        shop.get_item(&coloured(), item(number)).await.unwrap();
    }
    assert_eq!(served(&fleet).await[0], after[0] + 20);
}
