//! What the order service can be told: `configs/order.yaml`.

use std::time::Duration;

use bowline::config::duration;
use bowline::prelude::*;
use serde::{Deserialize, Serialize};
use shop_common::DatabaseConfig;

/// The order service's configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service can be told.
    pub service: Settings,
    /// The orders' database.
    pub database: DatabaseConfig,
    /// The services it calls.
    pub backends: Backends,
    /// When to finish what was left unfinished.
    pub settle: Settle,
}

/// Where the services are that it calls.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Backends {
    /// Knows titles and prices.
    pub catalog: String,
    /// Knows stock.
    pub inventory: String,
}

/// When to finish what was left unfinished.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// How often to look.
    #[serde(with = "duration")]
    pub every: Duration,
    /// How long an order may be worked on before it counts as left. Longer than any request lasts.
    #[serde(with = "duration")]
    pub after: Duration,
}
