//! Bowline's own registry: its API, and the adapter to it.

mod names;

/// The API of the registry, generated from `bowline/registry/v1/registry.proto`.
pub mod api {
    bowline_rpc::include_api!();
}

pub use names::canonical;
