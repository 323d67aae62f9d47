//! Microservices in Rust: one `.proto` becomes a server, a client and REST routes; instances find each other; every call is
//! bounded, balanced and observed; start and stop lose nothing.
//!
//! A service is a `main` like this, a configuration file, and its own code:
//!
//! ```no_run
//! use bowline::prelude::*;
//!
//! #[derive(serde::Deserialize, serde::Serialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     service: Settings,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     bowline::main("greeter", async |boot: Boot| {
//!         let config: Config = boot.config()?;
//!         let service = boot.service(&config.service, &config)?;
//!         let server = service.server()?; // .mount(api::greeter::server(GreeterService::new(…)))
//!         service.serve(server).run().await
//!     })
//! }
//! ```

mod balance;
mod boot;
mod freshness;
mod policy;
mod registry;
mod reload;
mod service;
mod settings;
mod slots;

pub use balance::{
    BalanceSettings, CanarySettings, EjectionSettings, MirrorSettings, PickerSettings, PolicySettings,
    ProbeSettings, SlowStartSettings, ZoneSettings,
};
pub use boot::{Boot, main, main_with_flags};
pub use bowline_rpc::include_api;
pub use policy::{
    AdmissionSettings, BreakerSettings, BudgetSettings, BulkheadSettings, ClientPolicySettings,
    HedgeSettings, RateSettings, RetrySettings, ServerPolicySettings, ThrottleSettings,
};
pub use service::Service;
pub use settings::{
    AdminSettings, ClientSettings, RegistrySettings, ServerSettings, Settings, TargetSettings, TlsSettings,
};

pub use {
    bowline_app as app, bowline_client as client, bowline_config as config, bowline_core as core,
    bowline_discovery as discovery, bowline_resilience as resilience, bowline_rpc as rpc,
    bowline_server as server, bowline_telemetry as telemetry, tracing,
};

/// What most files of a service need.
pub mod prelude {
    pub use bowline_app::task::Group;
    pub use bowline_app::{App, Resource};
    pub use bowline_core::{Code, Context, Error, Identity, Result, Tenant, WrapErr};
    pub use bowline_rpc::{Caller, Streaming};

    pub use crate::{Boot, Service, Settings};
}
