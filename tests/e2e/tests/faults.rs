//! One of several instances goes wrong, and callers hardly notice; a tenant's requests go to its own instances.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that tells its figures"
)]

use std::time::Duration;

use bowline::prelude::*;
use bowline_tests_e2e::{App, Fleet, Instance, Load};
use shop_api::interface::v1::{GetItemRequest, shop_service};

/// Each test measures under load and needs the machine for itself.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

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
    let _alone = ONE_AT_A_TIME.lock().await;
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

#[tokio::test]
async fn an_instance_that_dies_costs_no_request() {
    let _alone = ONE_AT_A_TIME.lock().await;
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
    let _alone = ONE_AT_A_TIME.lock().await;
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
