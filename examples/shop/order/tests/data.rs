//! Orders in a database file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::time::{Duration, SystemTime};

use bowline::prelude::*;
use shop_common::{DatabaseConfig, Money};
use shop_order::biz::{CustomerId, IdempotencyKey, ItemId, Offer, Order, OrderRepository, State, Wanted};
use shop_order::data::SqliteOrders;

async fn open(folder: &tempfile::TempDir) -> SqliteOrders {
    let config = DatabaseConfig::at(folder.path().join("order.db"));
    SqliteOrders::new(shop_order::data::open(&Context::background(), &config).await.unwrap())
}

fn customer() -> CustomerId {
    CustomerId::new("ada").unwrap()
}

fn order(key: &str, created_at: SystemTime) -> Order {
    let item = ItemId::new("item-0001").unwrap();
    let wanted = Wanted::new([(item.clone(), 2)]).unwrap();
    let offer = Offer { item, title: "茶壶".into(), price: Money::new("EUR", 250).unwrap() };
    Order::pending(customer(), IdempotencyKey::new(key).unwrap(), &wanted, vec![offer], created_at).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn placed(order: &Order) -> Order {
    Order { state: State::Placed, version: order.version + 1, ..order.clone() }
}

#[tokio::test]
async fn an_order_is_the_same_after_a_restart() {
    let (cx, folder) = (Context::background(), tempfile::tempdir().unwrap());
    let order = order("k1", at(1));
    open(&folder).await.insert(&cx, &order).await.unwrap();
    let orders = open(&folder).await;
    assert_eq!(orders.find(&cx, &order.id).await.unwrap(), Some(order.clone()));
    assert_eq!(orders.find_by_key(&cx, &order.customer, &order.key).await.unwrap(), Some(order));
}

#[tokio::test]
async fn a_key_that_is_taken_answers_with_the_order_that_has_it() {
    let (cx, folder) = (Context::background(), tempfile::tempdir().unwrap());
    let orders = open(&folder).await;
    let first = order("k1", at(1));
    assert_eq!(orders.insert(&cx, &first).await.unwrap(), first);
    assert_eq!(orders.insert(&cx, &order("k1", at(2))).await.unwrap(), first);
}

#[tokio::test]
async fn a_change_of_an_old_version_is_refused() {
    let (cx, folder) = (Context::background(), tempfile::tempdir().unwrap());
    let orders = open(&folder).await;
    let order = orders.insert(&cx, &order("k1", at(1))).await.unwrap();
    assert!(orders.update(&cx, &placed(&order)).await.unwrap());
    let late = Order { state: State::Abandoned, version: order.version + 1, ..order.clone() };
    assert!(!orders.update(&cx, &late).await.unwrap());
    assert_eq!(orders.find(&cx, &order.id).await.unwrap().unwrap().state, State::Placed);
}

#[tokio::test]
async fn lists_show_what_was_placed_the_newest_first() {
    let (cx, folder) = (Context::background(), tempfile::tempdir().unwrap());
    let orders = open(&folder).await;
    let mut all = Vec::new();
    for n in 0..4 {
        let order = orders.insert(&cx, &order(&format!("k{n}"), at(n))).await.unwrap();
        if n != 2 {
            assert!(orders.update(&cx, &placed(&order)).await.unwrap());
            all.insert(0, order.id);
        }
    }
    let first = orders.list(&cx, &customer(), None, 2).await.unwrap();
    let rest = orders.list(&cx, &customer(), Some(&first[1].id), 2).await.unwrap();
    assert_eq!(first.iter().chain(&rest).map(|order| order.id.clone()).collect::<Vec<_>>(), all);
    let nobody = CustomerId::new("bob").unwrap();
    assert_eq!(orders.list(&cx, &nobody, None, 2).await.unwrap(), []);
}

#[tokio::test]
async fn only_what_rested_for_a_while_is_to_be_settled() {
    let (cx, folder) = (Context::background(), tempfile::tempdir().unwrap());
    let orders = open(&folder).await;
    let [old, new] = [("k1", 1), ("k2", 9)].map(|(key, seconds)| order(key, at(seconds)));
    for order in [&old, &new] {
        orders.insert(&cx, order).await.unwrap();
    }
    assert_eq!(orders.unsettled(&cx, at(5)).await.unwrap(), std::slice::from_ref(&old));
    let settled = Order { settled: true, ..placed(&old) };
    assert!(orders.update(&cx, &settled).await.unwrap());
    assert_eq!(orders.unsettled(&cx, at(5)).await.unwrap(), []);
}
