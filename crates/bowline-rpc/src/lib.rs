//! The protocols of bowline.
//!
//! One method, written once over typed messages, is reachable over gRPC, gRPC-Web, Connect and REST, in protobuf and JSON,
//! on one port. Generated code fills a [`ServiceDef`]; a server mounts it into [`Routes`], resolves each request to an
//! operation *before* any layer runs, and lets [`Route::call`] speak the protocol. On the other side [`Caller`] is what
//! generated clients call through; a [`Transport`] carries its requests.
//!
//! This is the only crate that names connectrpc and buffa.

mod answer;
mod body;
mod budget;
mod caller;
#[doc(hidden)]
pub mod codegen;
pub mod dynamic;
mod encoded;
mod envelope;
mod handler;
pub mod headers;
mod health;
pub mod memory;
mod method;
mod plain;
mod protocol;
mod ready_made;
mod reflection;
mod rest;
mod routes;
mod scope;
mod service;
mod streaming;
mod wire;

/// The standard messages and services.
#[allow(missing_docs, unreachable_pub, elided_lifetimes_in_paths, clippy::all, reason = "generated")]
pub mod proto {
    crate::include_api!();
}

pub use body::{Body, End};
pub use budget::Budget;
pub use caller::{BoxFuture, Caller, Transport};
pub use encoded::Encoded;
pub use handler::Message;
pub use health::{Health, ServingStatus};
pub use method::{HttpRule, MethodDef};
pub use plain::Plain;
pub use protocol::{Protocol, Unresolved};
pub use ready_made::{Form, ReadyMade};
pub use reflection::Reflection;
pub use routes::{CallFuture, DEFAULT_BODY_LIMIT, Resolved, Route, Routes};
pub use scope::{Outcome, Scope};
pub use service::ServiceDef;
pub use streaming::{Sender, Streaming};

/// gRPC's answer of one message, for what answers in the place of a server.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` if the message is too large for protobuf.
pub fn answer_with(message: &impl Message) -> bowline_core::Result<http::Response<Body>> {
    let mut response = http::Response::new(Body::success(envelope::encode(message)?));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    Ok(response)
}

/// Includes what `bowline_build` generated: a tree of modules like the tree of proto packages.
///
/// ```ignore
/// pub mod api {
///     bowline::include_api!();
/// }
/// use api::shop::catalog::v1::catalog_service;
/// ```
#[macro_export]
macro_rules! include_api {
    () => {
        include!(concat!(env!("OUT_DIR"), "/bowline.rs"));
    };
}
