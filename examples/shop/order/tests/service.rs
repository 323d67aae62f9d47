//! The order service as its clients see it: over sockets, before a real catalog and a real inventory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use bowline::prelude::*;
use bowline::rpc::ServiceDef;
use bowline::server::{Server, ServerOptions};
use bowline::telemetry::Metrics;
use shop_api::catalog::v1::{catalog_error, catalog_service};
use shop_api::inventory::v1::{GetStockRequest, inventory_error, inventory_service};
use shop_api::order::v1::order::State;
use shop_api::order::v1::{
    CancelOrderRequest, GetOrderRequest, LineRequest, ListOrdersRequest, Order, PlaceOrderRequest,
    order_error, order_service,
};
use shop_common::DatabaseConfig;
use shop_order::Clients;

struct Running {
    client: order_service::Client,
    inventory: inventory_service::Client,
    servers: Vec<Server>,
    _folder: tempfile::TempDir,
}

/// A server of one service, and how to call it.
fn serve(name: &str, service: ServiceDef) -> (Server, Caller) {
    let mut server = Server::new(name, ServerOptions::at("127.0.0.1:0").unwrap()).mount(service);
    let target = server.bind().unwrap().to_string();
    (server, bowline::client::Channel::builder(target).build().unwrap().caller().unwrap())
}

async fn start() -> Running {
    let (cx, folder) = (Context::background(), tempfile::tempdir().unwrap());
    let config = |name: &str| DatabaseConfig::at(folder.path().join(name));
    let database = shop_catalog::data::open(&cx, &config("catalog.db")).await.unwrap();
    let (catalog, to_catalog) = serve("catalog", shop_catalog::mount(&database, &Metrics::new()));
    let database = shop_inventory::data::open(&cx, &config("inventory.db")).await.unwrap();
    let (inventory, to_inventory) = serve("inventory", shop_inventory::mount(&database, &Metrics::new()));
    let clients = Clients {
        catalog: catalog_service::Client::new(to_catalog),
        inventory: inventory_service::Client::new(to_inventory),
    };
    let database = shop_order::data::open(&cx, &config("order.db")).await.unwrap();
    let orders = shop_order::orders(&database, &clients);
    let (order, to_order) = serve("order", shop_order::mount(&orders, clients.clone(), &Metrics::new()));
    Running {
        client: order_service::Client::new(to_order),
        inventory: clients.inventory,
        servers: vec![catalog, inventory, order],
        _folder: folder,
    }
}

impl Running {
    async fn place(&self, key: &str, lines: &[(&str, i64)]) -> Result<Order> {
        let line = |(id, quantity): &(&str, i64)| LineRequest {
            item_id: (*id).into(),
            quantity: *quantity,
            ..Default::default()
        };
        let request = PlaceOrderRequest {
            customer_id: "ada".into(),
            idempotency_key: key.into(),
            lines: lines.iter().map(line).collect(),
            ..Default::default()
        };
        self.client.place_order(&Context::background(), request).await
    }

    async fn stock(&self, item: &str) -> (i64, i64) {
        let request = GetStockRequest { item_id: item.into(), ..Default::default() };
        let stock = self.inventory.get_stock(&Context::background(), request).await.unwrap();
        (stock.available, stock.reserved)
    }
}

#[tokio::test]
async fn an_order_has_the_catalogs_prices_and_the_inventorys_goods() {
    let (cx, shop) = (Context::background(), start().await);
    let order = shop.place("k1", &[("item-0001", 2), ("item-0004", 1)]).await.unwrap();
    assert_eq!((order.state, order.total.units), (State::PLACED.into(), 3 * 2490));
    assert_eq!(order.lines[1].title, "青山茶壶");
    assert_eq!(shop.stock("item-0001").await, (535, 0));
    let request = GetOrderRequest { id: order.id.clone(), ..Default::default() };
    assert_eq!(shop.client.get_order(&cx, request).await.unwrap(), order);
    let request = ListOrdersRequest { customer_id: "ada".into(), ..Default::default() };
    assert_eq!(shop.client.list_orders(&cx, request).await.unwrap().orders, [order]);
}

#[tokio::test]
async fn identical_requests_at_once_are_one_order() {
    let shop = start().await;
    let lines = [("item-0001", 3)];
    let (a, b, c) =
        tokio::join!(shop.place("k1", &lines), shop.place("k1", &lines), shop.place("k1", &lines));
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    assert_eq!((&a, &b), (&b, &c));
    assert_eq!(shop.stock("item-0001").await, (534, 0));
}

#[tokio::test]
async fn what_is_wrong_comes_through_as_whoever_found_it_said_it() {
    let (cx, shop) = (Context::background(), start().await);
    let error = shop.place("k1", &[("item-0001", 1), ("item-0404", 1)]).await.unwrap_err();
    assert!(
        inventory_error::is_out_of_stock(&error) && error.metadata()["item_id"] == "item-0404",
        "{error:?}"
    );
    let error = shop.place("k2", &[("ITEM", 1)]).await.unwrap_err();
    assert!(catalog_error::is_invalid_item_id(&error), "{error:?}");
    let error = shop.place("k3", &[("item-9999", 1)]).await.unwrap_err();
    assert!(order_error::is_item_not_sold(&error));
    assert!(order_error::is_invalid_order(&shop.place("", &[("item-0001", 1)]).await.unwrap_err()));
    assert!(order_error::is_invalid_order(&shop.place("k4", &[]).await.unwrap_err()));
    let request = GetOrderRequest { id: "order-0".into(), ..Default::default() };
    assert!(order_error::is_order_not_found(&shop.client.get_order(&cx, request).await.unwrap_err()));
    assert_eq!(shop.stock("item-0001").await, (537, 0));
}

#[tokio::test]
async fn a_cancelled_order_gives_its_goods_back() {
    let (cx, shop) = (Context::background(), start().await);
    let order = shop.place("k1", &[("item-0001", 2)]).await.unwrap();
    let request = CancelOrderRequest { id: order.id, ..Default::default() };
    let cancelled = shop.client.cancel_order(&cx, request.clone()).await.unwrap();
    assert_eq!(cancelled.state, State::CANCELLED);
    assert_eq!(shop.client.cancel_order(&cx, request).await.unwrap(), cancelled);
    assert_eq!(shop.stock("item-0001").await, (537, 0));
}

#[tokio::test]
async fn without_its_backends_it_fails_for_a_while_and_says_so() {
    let shop = start().await;
    shop.servers[0].abort();
    let error = shop.place("k1", &[("item-0001", 1)]).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
}
