//! x

/// The API of the registry, generated from `bowline/registry/v1/registry.proto`.
pub mod api {
    bowline_rpc::include_api!();
}
