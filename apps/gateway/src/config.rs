//! What the gateway is told.

use std::path::PathBuf;
use std::time::Duration;

use bowline::Settings;
use serde::{Deserialize, Serialize};

/// The gateway's configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service has.
    pub service: Settings,
    /// The file with the route table.
    pub routes: PathBuf,
}

/// The route table's file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Routes {
    /// In any order: the most specific host wins, then the longest prefix.
    pub(crate) routes: Vec<Route>,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `api.example.com`, `*.example.com`, or any host without it.
    #[serde(default)]
    pub host: Option<String>,
    /// What the path starts with, at a segment's end: `/v1` takes `/v1` and `/v1/items`, not `/v10`.
    pub prefix: String,
    /// `discovery:///NAME` or another target.
    pub service: String,
    /// The time until the response begins, where the caller gives no less. How long it then goes on is the caller's matter
    /// and the service's. 30 s.
    #[serde(default = "half_a_minute", with = "bowline::config::duration")]
    pub timeout: Duration,
}

const fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}
