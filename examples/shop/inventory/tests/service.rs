//! The inventory as its clients see it: over sockets, with a database in a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use bowline::prelude::*;
use bowline::server::{Server, ServerOptions};
use bowline::telemetry::Metrics;
use shop_api::inventory::v1::reservation::State;
use shop_api::inventory::v1::{
    BatchGetStockRequest, ConfirmRequest, GetStockRequest, Line, ReleaseRequest, ReserveRequest,
    inventory_error, inventory_service,
};
use shop_common::DatabaseConfig;
use shop_inventory::biz::{self as decide, ItemId, Ledger, ReservationId};
use shop_inventory::data::SqliteLedger;

struct Running {
    client: inventory_service::Client,
    _server: Server,
    folder: tempfile::TempDir,
}

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::at(folder.path().join("inventory.db"));
    let database = shop_inventory::data::open(&Context::background(), &config).await.unwrap();
    let mut server = Server::new("inventory", ServerOptions::at("127.0.0.1:0").unwrap())
        .mount(shop_inventory::mount(&database, &Metrics::new()));
    let target = server.bind().unwrap().to_string();
    let caller = bowline::client::Channel::builder(target).build().unwrap().caller().unwrap();
    Running { client: inventory_service::Client::new(caller), _server: server, folder }
}

impl Running {
    async fn available(&self, item: &str) -> (i64, i64) {
        let request = GetStockRequest { item_id: item.into(), ..Default::default() };
        let stock = self.client.get_stock(&Context::background(), request).await.unwrap();
        (stock.available, stock.reserved)
    }
}

fn reserve(id: &str, lines: &[(&str, i64)]) -> ReserveRequest {
    let line = |(item, quantity): &(&str, i64)| Line {
        item_id: (*item).into(),
        quantity: *quantity,
        ..Default::default()
    };
    ReserveRequest {
        reservation_id: id.into(),
        lines: lines.iter().map(line).collect(),
        ..Default::default()
    }
}

fn confirm(id: &str) -> ConfirmRequest {
    ConfirmRequest { reservation_id: id.into(), ..Default::default() }
}

fn release(id: &str) -> ReleaseRequest {
    ReleaseRequest { reservation_id: id.into(), ..Default::default() }
}

#[tokio::test]
async fn a_reservation_is_held_then_sold_then_returned() {
    let (cx, inventory) = (Context::background(), start().await);
    let client = &inventory.client;
    assert_eq!(inventory.available("item-0001").await, (537, 0));
    let held = client.reserve(&cx, reserve("r1", &[("item-0001", 7), ("item-0002", 1)])).await.unwrap();
    assert_eq!((held.state, held.lines.len()), (State::HELD.into(), 2));
    assert_eq!(inventory.available("item-0001").await, (530, 7));
    assert_eq!(client.confirm(&cx, confirm("r1")).await.unwrap().state, State::CONFIRMED);
    assert_eq!(inventory.available("item-0001").await, (530, 0));
    assert_eq!(client.release(&cx, release("r1")).await.unwrap().state, State::RELEASED);
    assert_eq!(inventory.available("item-0001").await, (537, 0));
}

#[tokio::test]
async fn asking_again_changes_nothing() {
    let (cx, inventory) = (Context::background(), start().await);
    for _ in 0..3 {
        inventory.client.reserve(&cx, reserve("r1", &[("item-0001", 7)])).await.unwrap();
    }
    assert_eq!(inventory.available("item-0001").await, (530, 7));
    let error = inventory.client.reserve(&cx, reserve("r1", &[("item-0001", 8)])).await.unwrap_err();
    assert!(inventory_error::is_reservation_conflict(&error));
}

#[tokio::test]
async fn an_item_that_is_sold_out_is_named_and_no_other_line_is_taken() {
    let (cx, inventory) = (Context::background(), start().await);
    let request = reserve("r1", &[("item-0001", 7), ("item-0404", 1)]);
    let error = inventory.client.reserve(&cx, request).await.unwrap_err();
    assert!(inventory_error::is_out_of_stock(&error), "{error:?}");
    assert_eq!(
        (error.metadata()["item_id"].as_str(), error.metadata()["available"].as_str()),
        ("item-0404", "0")
    );
    assert_eq!(inventory.available("item-0001").await, (537, 0));
}

#[tokio::test]
async fn a_release_that_overtakes_its_reservation_wins() {
    let (cx, inventory) = (Context::background(), start().await);
    inventory.client.release(&cx, release("r1")).await.unwrap();
    let error = inventory.client.reserve(&cx, reserve("r1", &[("item-0001", 7)])).await.unwrap_err();
    assert!(inventory_error::is_reservation_released(&error));
    assert_eq!(inventory.available("item-0001").await, (537, 0));
}

#[tokio::test]
async fn stock_that_is_wanted_by_many_at_once_is_sold_once() {
    let (cx, inventory) = (Context::background(), start().await);
    let mut group = Group::new(&cx);
    for n in 0..40 {
        let client = inventory.client.clone();
        group.spawn(async move |cx| {
            let lines = [("item-0001", 30), ("item-0002", 30)];
            match client.reserve(&cx, reserve(&format!("r{n}"), &lines)).await {
                Ok(_) => Ok(1),
                Err(error) if inventory_error::is_out_of_stock(&error) => Ok(0),
                Err(error) => Err(error),
            }
        });
    }
    let sold: i64 = group.wait().await.unwrap().into_iter().sum();
    assert_eq!(sold, 17, "537 are 17 times 30 and a rest");
    assert_eq!(inventory.available("item-0001").await, (537 - 17 * 30, 17 * 30));
}

#[tokio::test]
async fn a_batch_answers_what_there_is() {
    let (cx, inventory) = (Context::background(), start().await);
    let item_ids = ["item-0404", "nothing", "item-0001"].map(String::from).to_vec();
    let request = BatchGetStockRequest { item_ids, ..Default::default() };
    let stock = inventory.client.batch_get_stock(&cx, request).await.unwrap().stock;
    let stock: Vec<_> = stock.iter().map(|s| (s.item_id.as_str(), s.available)).collect();
    assert_eq!(stock, [("item-0404", 0), ("item-0001", 537)]);
}

#[tokio::test]
async fn a_reservation_is_still_there_after_a_restart() {
    let (cx, inventory) = (Context::background(), start().await);
    inventory.client.reserve(&cx, reserve("r1", &[("item-0001", 7)])).await.unwrap();
    let config = DatabaseConfig::at(inventory.folder.path().join("inventory.db"));
    let again = SqliteLedger::new(shop_inventory::data::open(&cx, &config).await.unwrap());
    let (id, item) = (ReservationId::new("r1").unwrap(), ItemId::new("item-0001").unwrap());
    let confirmed = again.change(&cx, &id, &[], |existing, stock| decide::confirm(&id, existing, stock));
    assert_eq!(confirmed.await.unwrap().lines.items().collect::<Vec<_>>(), [&item]);
    assert_eq!(inventory.available("item-0001").await, (530, 0));
}
