//! Policies change while the process runs.
//!
//! At SIGHUP the configuration is read again, and the policies of the server and of its calls are taken from it; nothing else
//! is. What is wrong with it is logged, and the last good ones stay.

use std::sync::{Arc, Mutex, PoisonError};

use bowline_client::ClientPolicies;
use bowline_core::{Context, Error};
use bowline_server::PolicyHandle;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{Boot, Settings, policy};

/// The configuration as operators see it.
#[derive(Clone)]
pub(crate) struct Shown(Arc<Mutex<Value>>);

impl Shown {
    pub(crate) fn new(config: Value) -> Self {
        Self(Arc::new(Mutex::new(config)))
    }

    pub(crate) fn now(&self) -> Value {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, side: &str, policies: Value) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Value::Object(side)) = shown.get_mut("service").and_then(|service| service.get_mut(side))
        {
            side.insert("policies".into(), policies);
        }
    }
}

/// What of an application's configuration is read again: what is named `service` in it, as in every template. The rest is the
/// application's own, and was checked when it started.
struct Config {
    service: Settings,
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Config;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a configuration with `service`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                let mut service = None;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "service" => service = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                service.map(|service| Config { service }).ok_or_else(|| A::Error::missing_field("service"))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

pub(crate) struct Reload {
    pub(crate) boot: Boot,
    pub(crate) server: PolicyHandle,
    pub(crate) clients: ClientPolicies,
    pub(crate) shown: Shown,
}

impl Reload {
    /// Reads the policies again at each SIGHUP, until `cx` ends.
    #[cfg(unix)]
    pub(crate) async fn run(self, cx: Context) -> bowline_core::Result<()> {
        use bowline_core::WrapErr;
        use tokio::signal::unix::{SignalKind, signal};

        let mut signals = signal(SignalKind::hangup()).context("catching SIGHUP")?;
        while cx.run(signals.recv()).await.is_ok() {
            match self.once() {
                Ok(()) => tracing::info!("policies read again"),
                Err(error) => tracing::warn!(%error, "policies not read again, the last good ones stay"),
            }
        }
        Ok(())
    }

    #[cfg(not(unix))]
    pub(crate) async fn run(self, _: Context) -> bowline_core::Result<()> {
        Ok(())
    }

    fn once(&self) -> bowline_core::Result<()> {
        let Config { service } = self.boot.config()?;
        let clients = policy::client(&service.client.policies)?;
        // The last step that can fail comes first: both change, or none.
        self.server.set(policy::server(&service.server.policies)?)?;
        self.clients.set(clients);
        let json = |policies| serde_json::to_value(policies).map_err(Error::from_std);
        self.shown.replace("server", json(&service.server.policies)?);
        let shown = serde_json::to_value(&service.client.policies).map_err(Error::from_std)?;
        self.shown.replace("client", shown);
        Ok(())
    }
}
