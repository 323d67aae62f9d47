//! The catalog: what is sold, in which words, at which price.
//!
//! Read it from the inside out. [`biz`] is what a catalog is and does, and names what it needs as a trait; [`data`] gives it
//! that, from SQLite; [`service`] speaks the contract of `shop.catalog.v1`. This file puts them together.

pub mod biz;
mod config;
pub mod data;
pub mod service;

use bowline::prelude::*;
use bowline::rpc::ServiceDef;
use bowline::telemetry::Metrics;
use shop_api::catalog::v1::catalog_service;
use shop_common::Database;
use shop_common::trace::Tracer;

pub use config::Config;

use biz::Catalog;
use data::SqliteItems;
use service::CatalogService;

/// Runs the catalog until it is told to stop.
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

/// The catalog over an open database, to be mounted on a server.
pub fn mount(database: &Database, metrics: &Metrics) -> ServiceDef {
    let catalog = Catalog::new(SqliteItems::new(database.clone()));
    catalog_service::server(CatalogService::new(catalog, Tracer::new("catalog", metrics)))
}
