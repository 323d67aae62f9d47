//! Code generation for bowline services.
//!
//! A build script names `.proto` files; out come messages, a trait and a client per service, the REST
//! routes of `google.api.http`, and constructors for typed errors. No `protoc` is needed, and the
//! generated code needs no dependency besides bowline itself.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), bowline_build::Error> {
//!     bowline_build::compile(["proto/shop/catalog/v1/catalog.proto"], ["proto"])
//! }
//! ```
//!
//! The code is included once, at any module path:
//!
//! ```ignore
//! pub mod api {
//!     bowline::include_api!();
//! }
//! use api::shop::catalog::v1::{catalog_service, Item};
//! ```
//!
//! # What becomes of a file
//!
//! * A package `shop.catalog.v1` becomes `shop::catalog::v1`, with its messages.
//! * A service `CatalogService` becomes a module `catalog_service` in it: `Service` to implement,
//!   `server` to mount an implementation, `Client` to call one, `methods` with what is known of each
//!   method.
//! * An enum with `option (bowline.api.default_code)`, or with a value that has `(bowline.api.error)`,
//!   is an error enum. Besides the enum there is a module, `catalog_error` for `CatalogError`, with
//!   `item_not_found()` and `is_item_not_found(&err)` for `ITEM_NOT_FOUND`.
//!
//! ```proto
//! import "bowline/api/errors.proto";
//!
//! enum CatalogError {
//!   option (bowline.api.default_code) = INTERNAL;
//!   CATALOG_ERROR_UNSPECIFIED = 0;
//!   // There is no such item.
//!   ITEM_NOT_FOUND = 1 [(bowline.api.error) = { code: NOT_FOUND }];
//! }
//! ```
//!
//! Mistakes are reported all at once, each with file, line and mend.

mod bundled;
mod check;
mod codes;
mod compile;
mod config;
mod editions;
mod emit;
mod error;
mod names;
mod options;
mod schema;
mod sources;
mod wire;

use std::path::Path;

pub use config::Config;
pub use error::Error;

/// Compiles `protos`, whose imports are relative to `includes`, into `OUT_DIR`.
///
/// Short for [`Config`] with nothing else set.
///
/// # Errors
///
/// As [`Config::compile`].
pub fn compile<P: AsRef<Path>, I: AsRef<Path>>(
    protos: impl IntoIterator<Item = P>,
    includes: impl IntoIterator<Item = I>,
) -> Result<(), Error> {
    Config::new().protos(protos).includes(includes).compile()
}
