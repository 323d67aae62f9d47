//! What customers see of the whole shop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod harness;

use std::time::Duration;

use bowline::prelude::*;
use harness::{Shop, bounded, eventually, place};
use shop_api::catalog::v1::catalog_error;
use shop_api::interface::v1::{
    CancelOrderRequest, GetAvailabilityRequest, GetItemRequest, GetOrderRequest, ListItemsRequest,
    TraceRequest, shop_error,
};
use shop_api::inventory::v1::inventory_error;
use shop_api::order::v1::order_error;

#[tokio::test(flavor = "multi_thread")]
async fn the_home_page_shows_items_stock_and_orders() {
    let shop = Shop::start().await;
    let order = shop.place("k1", &[("item-0001", 2)]).await.unwrap();
    let home = shop.home("ada").await.unwrap();
    assert_eq!(home.degraded, Vec::<String>::new());
    assert_eq!(
        home.featured.iter().map(|item| item.language.as_str()).collect::<Vec<_>>(),
        ["en", "zh", "zh"]
    );
    assert_eq!(home.stock.iter().map(|stock| stock.left).collect::<Vec<_>>(), [10, 10, 0]);
    assert_eq!(home.recent_orders.len(), 1);
    assert_eq!((&home.recent_orders[0].id, home.recent_orders[0].total.units), (&order.id, 4980));
    assert!(shop.home("").await.unwrap().recent_orders.is_empty(), "anybody has no orders");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_page_goes_without_what_is_down() {
    let shop = Shop::start().await;
    shop.place("k1", &[("item-0001", 2)]).await.unwrap();
    shop.stop("inventory").await;
    let home = shop.home("ada").await.unwrap();
    assert_eq!((home.degraded, home.stock.len()), (vec!["stock".to_owned()], 0));
    assert_eq!((home.featured.len(), home.recent_orders.len()), (3, 1));
    shop.stop("catalog").await;
    shop.stop("order").await;
    let home = shop.home("ada").await.unwrap();
    assert_eq!(home.degraded, ["featured", "stock", "recent_orders"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_once_for_identical_requests() {
    let shop = Shop::start().await;
    let lines = [("item-0001", 2), ("item-0004", 1)];
    let (a, b) = tokio::join!(shop.place("k1", &lines), shop.place("k1", &lines));
    let (a, b, c) = (a.unwrap(), b.unwrap(), shop.place("k1", &lines).await.unwrap());
    assert_eq!((&a, &a), (&b, &c));
    assert_eq!((a.state.as_str(), a.total.units), ("PLACED", 3 * 2490));
    assert_eq!(
        (shop.stock("item-0001").await, shop.home("ada").await.unwrap().recent_orders.len()),
        ((535, 0), 1)
    );
    let error = shop.place("k1", &[("item-0001", 1)]).await.unwrap_err();
    assert!(order_error::is_idempotency_conflict(&error), "{error:?}");
    let get = GetOrderRequest { id: a.id.clone(), ..Default::default() };
    assert_eq!(shop.client.get_order(&Context::background(), get).await.unwrap(), a);
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_stock_comes_through_every_hop_as_the_inventory_said_it() {
    let shop = Shop::start().await;
    let error = shop.place("k1", &[("item-0001", 1), ("item-0404", 1)]).await.unwrap_err();
    assert!(inventory_error::is_out_of_stock(&error), "{error:?}");
    assert_eq!((error.code(), error.reason()), (Code::FailedPrecondition, "OUT_OF_STOCK"));
    assert_eq!(
        (error.metadata()["item_id"].as_str(), error.metadata()["requested"].as_str()),
        ("item-0404", "1")
    );
    assert_eq!(error.message(), "1 of item item-0404 were asked for, 0 are available");
    assert_eq!(shop.stock("item-0001").await, (537, 0), "nothing was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sold_at_the_same_time_is_never_more_than_there_is() {
    let shop = Shop::start().await;
    let cx = Context::background().with_timeout(Duration::from_secs(20));
    let mut group = Group::new(&cx).with_limit(16);
    for n in 0..60 {
        let client = shop.client.clone();
        group.spawn(async move |cx| {
            // In either order, each wanted by all; every third is cancelled at once.
            let lines = [("item-0001", 20), ("item-0002", 20)];
            let lines = if n % 2 == 0 { lines } else { [lines[1], lines[0]] };
            let placed = place(&client, &cx, &format!("k{n}"), &lines).await;
            match placed {
                Ok(order) if n % 3 == 0 => {
                    let cancel = CancelOrderRequest { id: order.id, ..Default::default() };
                    client.cancel_order(&cx, cancel).await?;
                    Ok(0)
                }
                Ok(_) => Ok(20),
                Err(error) if inventory_error::is_out_of_stock(&error) => Ok(0),
                Err(error) => Err(error),
            }
        });
    }
    let sold: i64 = group.wait().await.unwrap().into_iter().sum();
    assert!(sold > 0);
    assert_eq!(shop.stock("item-0001").await, (537 - sold, 0));
    assert_eq!(shop.stock("item-0002").await, (574 - sold, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_listed_searched_and_looked_at() {
    let shop = Shop::start().await;
    let (cx, client) = (Context::background(), &shop.client);
    let first =
        client.list_items(&cx, ListItemsRequest { page_size: 2, ..Default::default() }).await.unwrap();
    assert_eq!((first.items.len(), first.next_page_token.as_str()), (2, "item-0002"));
    let query = ListItemsRequest { query: "さくら".into(), ..Default::default() };
    assert_eq!(client.list_items(&cx, query.clone()).await.unwrap().items.len(), 13);
    let both = ListItemsRequest { category: "books".into(), ..query };
    assert!(shop_error::is_query_with_category(&client.list_items(&cx, both).await.unwrap_err()));
    let item = GetItemRequest { id: "item-0404".into(), ..Default::default() };
    assert_eq!(client.get_item(&cx, item).await.unwrap().category, "garden");
    let stock = GetAvailabilityRequest { id: "item-0404".into(), ..Default::default() };
    assert!(!client.get_availability(&cx, stock).await.unwrap().in_stock);
    let nothing = GetItemRequest { id: "item-9999".into(), ..Default::default() };
    assert!(catalog_error::is_item_not_found(&client.get_item(&cx, nothing).await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_shows_the_deadline_shrink_at_each_hop() {
    let shop = Shop::start().await;
    let cx = Context::background().with_timeout(Duration::from_secs(5));
    let reply = shop.client.trace(&cx, TraceRequest { hold_millis: 1, ..Default::default() }).await.unwrap();
    let services: Vec<_> = reply.hops.iter().map(|hop| hop.service.as_str()).collect();
    assert_eq!(services, ["shop", "order", "inventory"]);
    let left: Vec<_> = reply.hops.iter().map(|hop| hop.remaining_millis).collect();
    assert!(left.is_sorted_by(|a, b| a >= b) && left[0] <= 5000 && left[2] > 0, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_leaves_stops_the_work_three_hops_down() {
    let shop = Shop::start().await;
    let holding = |count: &str| {
        let page = shop.metrics["inventory"].encode().unwrap();
        page.lines().any(|line| line == format!("shop_trace_holding {count}"))
    };
    let (cx, canceller) = Context::background().with_cancel();
    let call = shop.client.trace(&cx, TraceRequest { hold_millis: 60_000, ..Default::default() });
    let leave = async {
        eventually("the call is held at the inventory", || holding("1")).await;
        canceller.cancel();
    };
    let (reply, ()) = bounded("leaving", Box::pin(async { tokio::join!(call, leave) })).await;
    assert!(reply.unwrap_err().is_canceled());
    eventually("the inventory has let go", || holding("0")).await;
}
