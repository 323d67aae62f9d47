//! What the inventory can be told: `configs/inventory.yaml`.

use bowline::prelude::*;
use serde::{Deserialize, Serialize};
use shop_common::DatabaseConfig;

/// The inventory's configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service can be told.
    pub service: Settings,
    /// The stock's database.
    pub database: DatabaseConfig,
}
