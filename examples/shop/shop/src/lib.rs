//! The shop's interface, or BFF: one call for what a page shows.
//!
//! An interface has no domain and no database. What it adds to the services behind it is composition: [`biz`] says how a page
//! is put together and what it does without; [`data`] asks the services; [`service`] reshapes what they answer for apps, in
//! the contract `shop.interface.v1`. This file puts them together.

pub mod biz;
mod config;
pub mod data;
pub mod service;

use bowline::prelude::*;
use bowline::rpc::ServiceDef;
use bowline::telemetry::Metrics;
use shop_api::catalog::v1::catalog_service;
use shop_api::interface::v1::shop_service;
use shop_api::inventory::v1::inventory_service;
use shop_api::order::v1::order_service;
use shop_common::trace::Tracer;

pub use config::{BackendTargets, Config, HomeConfig};

use biz::Home;
use data::Backends;
use service::ShopService;

/// Runs the interface until it is told to stop.
///
/// # Errors
/// Why it could not start, run or stop in good order.
pub async fn run(boot: Boot) -> Result<()> {
    let config: Config = boot.config()?;
    let service = boot.service(&config.service, &config)?;
    let backends = Backends {
        catalog: catalog_service::Client::new(service.caller(&config.backends.catalog)?),
        inventory: inventory_service::Client::new(service.caller(&config.backends.inventory)?),
        order: order_service::Client::new(service.caller(&config.backends.order)?),
    };
    let server = service.server()?.mount(mount(backends, config.home, service.metrics()));
    service.serve(server).version(env!("CARGO_PKG_VERSION")).run().await
}

/// The interface before these backends, to be mounted on a server.
pub fn mount(backends: Backends, home: HomeConfig, metrics: &Metrics) -> ServiceDef {
    let tracer = Tracer::new("shop", metrics)
        .peer("catalog", backends.catalog.clone())
        .peer("inventory", backends.inventory.clone())
        .peer("order", backends.order.clone());
    shop_service::server(ShopService::new(backends.clone(), Home::new(backends, home), tracer))
}
