//! Configuration: YAML files and the environment, merged in order into one typed struct that is checked before anything
//! starts.
//!
//! ```
//! use bowline_config::{ByteSize, Loader, Secret};
//! use serde::Deserialize;
//! use std::time::Duration;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     server: Server,
//!     database_password: Secret,
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Server {
//!     addr: String,
//!     #[serde(with = "bowline_config::duration")]
//!     timeout: Duration,
//!     max_body: ByteSize,
//! }
//!
//! let yaml = "
//! server: { addr: '0.0.0.0:8000', timeout: 250ms, max_body: 4MiB }
//! database_password: ${DB_PASSWORD:-development}
//! ";
//! let config: Config = Loader::new()
//!     .variables([("CATALOG__SERVER__TIMEOUT", "10s")]) // usually the process's own
//!     .text("catalog.yaml", yaml)?
//!     .env("CATALOG")
//!     .load()?;
//! assert_eq!(config.server.timeout, Duration::from_secs(10));
//! assert_eq!(config.server.max_body, ByteSize::mib(4));
//! assert_eq!(format!("{:?}", config.database_password), "***");
//! # Ok::<_, bowline_core::Error>(())
//! ```
//!
//! What is refused rather than guessed: keys that match nothing (with the nearest ones that would), keys given twice,
//! variables that are not set, numbers without a unit where there is one. Errors name the file with line and column or the
//! environment variable, the path of the key, the cause and the mend; all wrong keys are told at once.
//!
//! One limit: below `#[serde(flatten)]` and in untagged enums serde itself swallows keys before they can be compared.

mod byte_size;
mod de;
pub mod duration;
mod env;
mod interpolate;
mod loader;
mod node;
mod problem;
mod redact;
mod secret;
mod suggest;
mod yaml;

pub use byte_size::ByteSize;
pub use loader::{Loader, Validate};
pub use redact::redacted;
pub use secret::Secret;
