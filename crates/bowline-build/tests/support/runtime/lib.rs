//! The signatures generated code is written against, and nothing behind them.
#![allow(unused)]

pub mod codegen {
    use std::future::Future;
    use std::marker::PhantomData;

    pub use {buffa, buffa_descriptor, buffa_types, serde, serde_json};

    pub trait Payload:
        buffa::Message + serde::Serialize + serde::de::DeserializeOwned + Send + 'static
    {
    }
    impl<M> Payload for M where
        M: buffa::Message
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Send
            + 'static
    {
    }

    #[derive(Clone, Debug)]
    pub struct Context;

    #[derive(Debug)]
    pub struct Error;
    impl Error {
        pub fn new(code: Code, message: impl Into<String>) -> Self {
            Self
        }
        pub fn with_reason(self, reason: impl Into<String>) -> Self {
            self
        }
        pub fn with_domain(self, domain: impl Into<String>) -> Self {
            self
        }
        pub fn matches(&self, domain: &str, reason: &str) -> bool {
            false
        }
    }
    pub type Result<T, E = Error> = std::result::Result<T, E>;

    pub enum Code {
        Canceled,
        Unknown,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    }

    pub struct Streaming<T>(PhantomData<fn() -> T>);

    pub enum MethodKind {
        Unary,
        ServerStreaming,
        ClientStreaming,
        BidiStreaming,
    }
    pub enum Idempotency {
        Unknown,
        NoSideEffects,
        Idempotent,
    }
    pub struct HttpRule {
        pub verb: &'static str,
        pub pattern: &'static str,
        pub body: &'static str,
        pub response_body: &'static str,
    }
    pub struct MethodDef {
        pub service: &'static str,
        pub name: &'static str,
        pub path: &'static str,
        pub kind: MethodKind,
        pub idempotency: Idempotency,
        pub input: &'static str,
        pub output: &'static str,
        pub http: &'static [HttpRule],
    }

    pub struct ServiceDef;
    impl ServiceDef {
        pub fn new(name: &'static str, descriptors: &'static [u8]) -> Self {
            Self
        }
        pub fn unary<I: Payload, O: Payload, F, Fut>(self, method: &'static MethodDef, handler: F) -> Self
        where
            F: Fn(Context, I) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<O>> + Send + 'static,
        {
            self
        }
        pub fn server_streaming<I: Payload, O: Payload, F, Fut>(self, method: &'static MethodDef, handler: F) -> Self
        where
            F: Fn(Context, I) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<Streaming<O>>> + Send + 'static,
        {
            self
        }
        pub fn client_streaming<I: Payload, O: Payload, F, Fut>(self, method: &'static MethodDef, handler: F) -> Self
        where
            F: Fn(Context, Streaming<I>) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<O>> + Send + 'static,
        {
            self
        }
        pub fn bidi_streaming<I: Payload, O: Payload, F, Fut>(self, method: &'static MethodDef, handler: F) -> Self
        where
            F: Fn(Context, Streaming<I>) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<Streaming<O>>> + Send + 'static,
        {
            self
        }
    }

    #[derive(Clone, Debug)]
    pub struct Caller;
    impl Caller {
        pub async fn unary<I: Payload, O: Payload>(&self, cx: &Context, method: &'static MethodDef, req: I) -> Result<O> {
            Err(Error)
        }
        pub async fn server_streaming<I: Payload, O: Payload>(
            &self,
            cx: &Context,
            method: &'static MethodDef,
            req: I,
        ) -> Result<Streaming<O>> {
            Err(Error)
        }
        pub async fn client_streaming<I: Payload, O: Payload>(
            &self,
            cx: &Context,
            method: &'static MethodDef,
            req: Streaming<I>,
        ) -> Result<O> {
            Err(Error)
        }
        pub async fn bidi_streaming<I: Payload, O: Payload>(
            &self,
            cx: &Context,
            method: &'static MethodDef,
            req: Streaming<I>,
        ) -> Result<Streaming<O>> {
            Err(Error)
        }
    }
}
