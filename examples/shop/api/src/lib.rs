//! The contracts of the shop, generated from `protos/`.
//!
//! A module per proto package: `shop_api::catalog::v1` has the messages of `shop.catalog.v1`, and in `catalog_service` the
//! trait that the catalog implements, the function that mounts it and the client that others call it with.

mod services {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    bowline::include_api!();
}

mod interfaces {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/interface/bowline.rs"));
}

pub use interfaces::shop::interface;
pub use services::shop::{catalog, common, inventory, order};
