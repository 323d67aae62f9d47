//! The gateway: one address outside, many services inside.
//!
//! A request is matched by host and path prefix against a [`Table`] and passed on, over HTTP/2, to an instance of the service
//! that the route names; HTTP, gRPC, gRPC-Web and Connect alike. The table is a file that is read again when it changes; a
//! broken one is reported and the last good one stays.
//!
//! What strangers may not say is taken off (`x-md-*`), what belongs to one connection only is not passed on, and the time a
//! caller gives goes along as what remains of it. A route's own time bounds the wait for the answer's beginning.

mod config;
mod proxy;
mod reload;
mod table;

use bowline::prelude::*;

pub use config::{Config, Route};
pub use proxy::Proxy;
pub use table::Table;

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// If the configuration or the route table is wrong, or the address is taken.
pub async fn run(boot: Boot) -> Result<()> {
    let config: Config = boot.config()?;
    let mut settings = config.service.clone();
    settings.server.edge = true;
    let service = boot.service(&settings, &config)?;
    let channels = service.channels();
    let (table, seen) = reload::read(&config.routes, &channels)?;
    let proxy = Proxy::new(table).behind_tls(settings.server.tls.is_some());
    let server = service.server()?.fallback(proxy.clone());
    let watch = reload::watch(config.routes.clone(), seen, channels, proxy);
    service.serve(server).version(env!("CARGO_PKG_VERSION")).background("route table", watch).run().await
}
