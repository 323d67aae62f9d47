//! What is being called.

use std::fmt;
use std::sync::Arc;

/// Which sides of a call are streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// One message each way.
    Unary,
    /// One message in, many out.
    ServerStreaming,
    /// Many messages in, one out.
    ClientStreaming,
    /// Many each way, independently.
    BidiStreaming,
}

impl MethodKind {
    /// Whether the caller sends a stream.
    pub const fn client_streams(self) -> bool {
        matches!(self, Self::ClientStreaming | Self::BidiStreaming)
    }

    /// Whether the server sends a stream.
    pub const fn server_streams(self) -> bool {
        matches!(self, Self::ServerStreaming | Self::BidiStreaming)
    }
}

/// What may happen to a call that is made twice; from the proto option `idempotency_level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Idempotency {
    /// Twice may not be the same as once: never sent again once it may have been processed.
    #[default]
    Unknown,
    /// Reads only.
    NoSideEffects,
    /// Twice is the same as once.
    Idempotent,
}

impl Idempotency {
    /// Whether a call that may have been processed can be sent again.
    pub const fn can_repeat(self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

#[derive(Debug)]
struct Inner {
    service: Box<str>,
    method: Box<str>,
    path: Box<str>,
    kind: MethodKind,
    idempotency: Idempotency,
}

/// One method of one service, resolved before any layer runs, so that every metric and every rule has its name.
///
/// ```
/// use bowline_core::{MethodKind, Operation};
///
/// let op = Operation::new("shop.catalog.v1.CatalogService", "GetItem", MethodKind::Unary);
/// assert_eq!(op.path(), "/shop.catalog.v1.CatalogService/GetItem");
/// ```
#[derive(Clone)]
pub struct Operation(Arc<Inner>);

impl Operation {
    /// An operation with unknown idempotency.
    pub fn new(service: &str, method: &str, kind: MethodKind) -> Self {
        Self::with_idempotency(service, method, kind, Idempotency::Unknown)
    }

    /// An operation.
    pub fn with_idempotency(service: &str, method: &str, kind: MethodKind, idempotency: Idempotency) -> Self {
        Self(Arc::new(Inner {
            service: service.into(),
            method: method.into(),
            path: format!("/{service}/{method}").into(),
            kind,
            idempotency,
        }))
    }

    /// The full name of the service, such as `shop.catalog.v1.CatalogService`.
    pub fn service(&self) -> &str {
        &self.0.service
    }

    /// The method's name, such as `GetItem`.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// `/service/method`, as gRPC and Connect write it.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Which sides stream.
    pub fn kind(&self) -> MethodKind {
        self.0.kind
    }

    /// Whether it may be repeated.
    pub fn idempotency(&self) -> Idempotency {
        self.0.idempotency
    }
}

impl PartialEq for Operation {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.path == other.0.path
    }
}

impl Eq for Operation {}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operation({})", self.path())
    }
}
