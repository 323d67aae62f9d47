//! Orders: placed once, priced by the catalog, reserved in the inventory.
//!
//! [`biz`] places and cancels orders, and says what it needs for that: a repository, prices, stock. [`data`] gives it these:
//! the first from SQLite, the others from the services that have them. [`service`] speaks the contract of `shop.order.v1`.
//! This file puts them together.

pub mod biz;
mod config;
pub mod data;
pub mod service;

use std::sync::Arc;

use bowline::prelude::*;
use bowline::rpc::ServiceDef;
use bowline::telemetry::Metrics;
use shop_api::catalog::v1::catalog_service;
use shop_api::inventory::v1::inventory_service;
use shop_api::order::v1::order_service;
use shop_common::Database;
use shop_common::trace::Tracer;

pub use config::{Backends, Config, Settle};

use data::{CatalogPrices, InventoryStock, SqliteOrders};
use service::OrderService;

/// The order service's business over its real data.
pub type Orders = biz::Orders<SqliteOrders, CatalogPrices, InventoryStock>;

/// Clients of the services it calls.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Knows titles and prices.
    pub catalog: catalog_service::Client,
    /// Knows stock.
    pub inventory: inventory_service::Client,
}

/// Runs the order service until it is told to stop.
///
/// # Errors
/// Why it could not start, run or stop in good order.
pub async fn run(boot: Boot) -> Result<()> {
    let config: Config = boot.config()?;
    let service = boot.service(&config.service, &config)?;
    let clients = Clients {
        catalog: catalog_service::Client::new(service.caller(&config.backends.catalog)?),
        inventory: inventory_service::Client::new(service.caller(&config.backends.inventory)?),
    };
    let database = data::open(&Context::background(), &config.database).await?;
    let orders = orders(&database, &clients);
    let server = service.server()?.mount(mount(&orders, clients, service.metrics()));
    service
        .serve(server)
        .version(env!("CARGO_PKG_VERSION"))
        .own(database)
        .background("settling orders", async move |cx| settle_orders(&cx, &orders, &config.settle).await)
        .run()
        .await
}

/// The orders in a database, placed with these clients.
pub fn orders(database: &Database, clients: &Clients) -> Arc<Orders> {
    Arc::new(Orders::new(
        SqliteOrders::new(database.clone()),
        CatalogPrices::new(clients.catalog.clone()),
        InventoryStock::new(clients.inventory.clone()),
    ))
}

/// The service over these orders, to be mounted on a server.
pub fn mount(orders: &Arc<Orders>, clients: Clients, metrics: &Metrics) -> ServiceDef {
    let tracer =
        Tracer::new("order", metrics).peer("catalog", clients.catalog).peer("inventory", clients.inventory);
    order_service::server(OrderService::new(Arc::clone(orders), tracer))
}

/// Finishes what was left unfinished, again and again, until `cx` ends.
async fn settle_orders(cx: &Context, orders: &Orders, settle: &Settle) -> Result<()> {
    loop {
        cx.run(tokio::time::sleep(settle.every)).await?;
        if let Err(error) = orders.settle_all(cx, settle.after).await {
            bowline::tracing::warn!(%error, "orders could not be settled; trying again later");
        }
    }
}
