//! What the interface can be told: `configs/shop.yaml`.

use std::time::Duration;

use bowline::config::duration;
use bowline::prelude::*;
use serde::{Deserialize, Serialize};

/// The interface's configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service can be told.
    pub service: Settings,
    /// The services it calls.
    pub backends: BackendTargets,
    /// The home page.
    pub home: HomeConfig,
}

/// Where the services are that it calls.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackendTargets {
    /// Knows items.
    pub catalog: String,
    /// Knows stock.
    pub inventory: String,
    /// Knows orders.
    pub order: String,
}

/// What is on the home page, and how long its parts may take.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HomeConfig {
    /// The ids of the items shown.
    pub featured: Vec<String>,
    /// How long to wait for the items.
    #[serde(with = "duration")]
    pub featured_within: Duration,
    /// How long to wait for their stock.
    #[serde(with = "duration")]
    pub stock_within: Duration,
    /// How long to wait for the customer's orders.
    #[serde(with = "duration")]
    pub recent_orders_within: Duration,
}
