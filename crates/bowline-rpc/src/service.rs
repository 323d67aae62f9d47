//! A service and its implementation, ready to be mounted.

use std::future::Future;
use std::sync::Arc;

use bowline_core::{Context, Result};

use crate::handler::{BidiStreaming, ClientStreaming, Handler, Message, ServerStreaming, Unary};
use crate::{MethodDef, Streaming};

/// An implemented service: what generated code's `server(…)` returns and a server mounts.
pub struct ServiceDef {
    pub(crate) name: &'static str,
    pub(crate) descriptors: &'static [u8],
    pub(crate) methods: Vec<(&'static MethodDef, Arc<dyn Handler>)>,
}

impl ServiceDef {
    /// A service without methods yet. `descriptors` is the encoded `FileDescriptorSet` with its file and all imports.
    pub fn new(name: &'static str, descriptors: &'static [u8]) -> Self {
        Self { name, descriptors, methods: Vec::new() }
    }

    /// The full name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The methods.
    pub fn methods(&self) -> impl Iterator<Item = &'static MethodDef> {
        self.methods.iter().map(|(def, _)| *def)
    }

    /// Adds a method with one message each way.
    #[must_use]
    pub fn unary<Req, Res, F, Fut>(self, def: &'static MethodDef, handler: F) -> Self
    where
        Req: Message,
        Res: Message,
        F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Res>> + Send + 'static,
    {
        self.with(def, Unary::new(handler))
    }

    /// Adds a method that answers with a stream.
    #[must_use]
    pub fn server_streaming<Req, Res, F, Fut>(self, def: &'static MethodDef, handler: F) -> Self
    where
        Req: Message,
        Res: Message,
        F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Streaming<Res>>> + Send + 'static,
    {
        self.with(def, ServerStreaming::new(handler))
    }

    /// Adds a method that takes a stream.
    #[must_use]
    pub fn client_streaming<Req, Res, F, Fut>(self, def: &'static MethodDef, handler: F) -> Self
    where
        Req: Message,
        Res: Message,
        F: Fn(Context, Streaming<Req>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Res>> + Send + 'static,
    {
        self.with(def, ClientStreaming::new(handler))
    }

    /// Adds a method with a stream each way.
    #[must_use]
    pub fn bidi_streaming<Req, Res, F, Fut>(self, def: &'static MethodDef, handler: F) -> Self
    where
        Req: Message,
        Res: Message,
        F: Fn(Context, Streaming<Req>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Streaming<Res>>> + Send + 'static,
    {
        self.with(def, BidiStreaming::new(handler))
    }

    fn with(mut self, def: &'static MethodDef, handler: impl Handler) -> Self {
        self.methods.push((def, Arc::new(handler)));
        self
    }
}

impl std::fmt::Debug for ServiceDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServiceDef({}, {} methods)", self.name, self.methods.len())
    }
}
