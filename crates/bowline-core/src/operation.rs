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

#[derive(Clone)]
enum Repr {
    /// Of generated code: nothing to allocate or to count.
    Static { service: &'static str, method: &'static str, path: &'static str },
    /// Made at run time, by a gateway or a command line.
    Shared(Arc<Names>),
}

struct Names {
    path: Box<str>,
    /// Where the service ends in `path`.
    slash: usize,
}

/// One method of one service, resolved before any layer runs, so that every metric and every rule has its name.
///
/// ```
/// use bowline_core::{MethodKind, Operation};
///
/// let op = Operation::new("shop.catalog.v1.CatalogService", "GetItem", MethodKind::Unary);
/// assert_eq!(op.path(), "/shop.catalog.v1.CatalogService/GetItem");
/// assert_eq!((op.service(), op.method()), ("shop.catalog.v1.CatalogService", "GetItem"));
/// ```
#[derive(Clone)]
pub struct Operation {
    names: Repr,
    kind: MethodKind,
    idempotency: Idempotency,
}

impl Operation {
    /// An operation with unknown idempotency.
    pub fn new(service: &str, method: &str, kind: MethodKind) -> Self {
        Self::with_idempotency(service, method, kind, Idempotency::Unknown)
    }

    /// An operation.
    pub fn with_idempotency(service: &str, method: &str, kind: MethodKind, idempotency: Idempotency) -> Self {
        let names = Names { path: format!("/{service}/{method}").into(), slash: service.len() + 1 };
        Self { names: Repr::Shared(Arc::new(names)), kind, idempotency }
    }

    /// An operation known when the program was compiled. `path` is `/service/method`.
    pub const fn from_static(
        service: &'static str,
        method: &'static str,
        path: &'static str,
        kind: MethodKind,
        idempotency: Idempotency,
    ) -> Self {
        Self { names: Repr::Static { service, method, path }, kind, idempotency }
    }

    /// The full name of the service, such as `shop.catalog.v1.CatalogService`.
    pub fn service(&self) -> &str {
        match &self.names {
            Repr::Static { service, .. } => service,
            Repr::Shared(names) => &names.path[1..names.slash],
        }
    }

    /// The method's name, such as `GetItem`.
    pub fn method(&self) -> &str {
        match &self.names {
            Repr::Static { method, .. } => method,
            Repr::Shared(names) => &names.path[names.slash + 1..],
        }
    }

    /// `/service/method`, as gRPC and Connect write it.
    pub fn path(&self) -> &str {
        match &self.names {
            Repr::Static { path, .. } => path,
            Repr::Shared(names) => &names.path,
        }
    }

    /// Which sides stream.
    pub fn kind(&self) -> MethodKind {
        self.kind
    }

    /// Whether it may be repeated.
    pub fn idempotency(&self) -> Idempotency {
        self.idempotency
    }
}

impl PartialEq for Operation {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
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
