//! The inventory: how much there is of each item, and who has a claim on it.
//!
//! [`biz`] decides what may happen to stock, as plain functions of what there is; [`data`] reads, lets it decide and writes,
//! in one transaction; [`service`] speaks the contract of `shop.inventory.v1`. This file puts them together.

pub mod biz;
mod config;
pub mod data;
pub mod service;

use bowline::prelude::*;
use bowline::rpc::ServiceDef;
use bowline::telemetry::Metrics;
use shop_api::inventory::v1::inventory_service;
use shop_common::Database;
use shop_common::trace::Tracer;

pub use config::Config;

use biz::Inventory;
use data::SqliteLedger;
use service::InventoryService;

/// Runs the inventory until it is told to stop.
///
/// # Errors
/// Why it could not start, run or stop in good order.
pub async fn run(boot: Boot) -> Result<()> {
    let config: Config = boot.config()?;
    let service = boot.service(&config.service, &config)?;
    let database = data::open(&Context::background(), &config.database).await?;
    let server = service.server()?.mount(mount(&database, service.metrics()));
    service.serve(server).version(env!("CARGO_PKG_VERSION")).own(database).run().await
}

/// The inventory over an open database, to be mounted on a server.
pub fn mount(database: &Database, metrics: &Metrics) -> ServiceDef {
    let inventory = Inventory::new(SqliteLedger::new(database.clone()));
    inventory_service::server(InventoryService::new(inventory, Tracer::new("inventory", metrics)))
}
