//! The contracts between the shop's services, generated from `protos/`.
//!
//! A module per proto package: `shop_api::catalog::v1` has the messages of `shop.catalog.v1`, and in `catalog_service` the
//! trait that the catalog implements, the function that mounts it and the client that others call it with.

mod generated {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    bowline::include_api!();
}

pub use generated::shop::{catalog, common, inventory, order};
