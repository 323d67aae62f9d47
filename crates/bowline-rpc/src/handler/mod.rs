//! Typed handlers behind one untyped face.
//!
//! A handler is called in two ways: by connectrpc, with encoded messages, for gRPC, gRPC-Web and Connect; and by the REST
//! binding, with JSON. Both end in the same closure over typed messages.

mod grpc;
mod rest;
mod rpc;

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use bowline_core::task::contain;
use bowline_core::{Context, Error, Result, current};
use bytes::Bytes;
use connectrpc::{ConnectError, RequestContext};
use futures_util::TryStreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rest::{Encoding, RestInput, RestReply};
use crate::scope::{Outcome, Scope};
use crate::wire;

pub(crate) use grpc::is_plain;
pub(crate) use rpc::Erased;
use rpc::RpcHandler;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A message that generated code made: protobuf and canonical JSON.
pub trait Message: buffa::Message + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T> Message for T where T: buffa::Message + Serialize + DeserializeOwned + Send + Sync + 'static {}

/// One method's handler.
pub(crate) trait Handler: RpcHandler {
    /// Calls it with JSON.
    fn call_rest(&self, cx: Context, input: RestInput, encoding: Encoding) -> BoxFuture<Result<RestReply>>;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        pub(crate) struct $name<F, Req, Res> {
            handler: F,
            types: PhantomData<fn(Req) -> Res>,
        }

        impl<F, Req, Res> $name<F, Req, Res> {
            pub(crate) fn new(handler: F) -> Self {
                Self { handler, types: PhantomData }
            }
        })*
    };
}

kinds! {
    /// One message each way.
    Unary;
    /// One in, many out.
    ServerStreaming;
    /// Many in, one out.
    ClientStreaming;
    /// Many each way.
    BidiStreaming;
}

/// What a handler needs of the request: its context, and where to say how it ended.
struct Call {
    cx: Context,
    outcome: Outcome,
}

impl Call {
    fn take(request: &mut RequestContext) -> Self {
        match request.extensions_mut().remove::<Scope>() {
            Some(scope) => Self { cx: scope.cx, outcome: scope.outcome },
            // A dispatcher mounted without a pipeline: nothing bounds the call but its own protocol.
            None => Self { cx: Context::background(), outcome: Outcome::default() },
        }
    }

    /// Notes how the call ended and puts a failure into wire form.
    fn finish<T>(cx: &Context, outcome: &Outcome, result: Result<T>) -> Result<T, ConnectError> {
        match result {
            Ok(value) => {
                outcome.succeed();
                Ok(value)
            }
            Err(error) => Err(Self::fail(cx, outcome, error)),
        }
    }

    fn fail(cx: &Context, outcome: &Outcome, error: Error) -> ConnectError {
        let wire = wire::to_connect(&error, cx.request_id());
        outcome.fail(error);
        wire
    }
}

/// Encodes a stream of messages, ends it when the context does, and notes how it ended.
pub(crate) fn outgoing<T, U: Send + 'static>(
    cx: Context,
    outcome: Outcome,
    messages: impl futures_core::Stream<Item = Result<T>> + Send + Unpin + 'static,
    encode: impl FnMut(T) -> Result<U> + Send + 'static,
) -> impl futures_core::Stream<Item = Result<U>> + Send + 'static
where
    T: Send + 'static,
{
    struct State<S, E>(Context, Outcome, S, E, bool);
    let state = State(cx, outcome, messages, encode, false);
    futures_util::stream::unfold(state, |mut state| async move {
        let State(cx, outcome, messages, encode, ended) = &mut state;
        if *ended {
            return None;
        }
        // As before the first message: a panic is this call's error, and what is logged has its ids.
        let next = current::scoped(cx.clone(), contain(cx.run(messages.try_next())));
        let next = next.await.flatten().flatten();
        let item = match next {
            Ok(Some(message)) => encode(message),
            Ok(None) => {
                outcome.succeed();
                return None;
            }
            Err(error) => Err(error),
        };
        // An error is the last item.
        *ended = item.is_err();
        Some((item, state))
    })
}

fn invalid_json(error: &serde_json::Error) -> Error {
    Error::invalid_argument(format!("the JSON does not fit the message: {error}")).with_reason("INVALID_JSON")
}

pub(crate) fn from_json<T: DeserializeOwned>(bytes: &Bytes) -> Result<T> {
    // A body that is left out is an empty message.
    let bytes = if bytes.is_empty() { b"{}" } else { &bytes[..] };
    // The derived deserialisers would take an array for the fields in their order, which is no proto JSON.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::invalid_argument("the body must be a JSON object, not an array")
            .with_reason("INVALID_JSON"));
    }
    serde_json::from_slice(bytes).map_err(|e| invalid_json(&e))
}

pub(crate) fn to_json<T: Serialize>(message: &T) -> Result<Bytes> {
    let bytes = serde_json::to_vec(message)
        .map_err(|e| Error::internal("the reply cannot be written as JSON").with_source(e))?;
    Ok(bytes.into())
}
