//! What the catalog can be told: `configs/catalog.yaml`.

use bowline::prelude::*;
use serde::{Deserialize, Serialize};
use shop_common::DatabaseConfig;

/// The catalog's configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service can be told.
    pub service: Settings,
    /// The items' database.
    pub database: DatabaseConfig,
}
