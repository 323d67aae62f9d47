//! Handlers called with JSON.

use bowline_core::{Context, Error, Result};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;

use super::{
    BidiStreaming, BoxFuture, ClientStreaming, Handler, Message, ServerStreaming, Unary, from_json,
    invalid_json, to_json,
};
use crate::Streaming;
use crate::rest::{Encoding, Merged, RestInput, RestReply};

fn decode<T: Message>(input: RestInput) -> Result<T> {
    match input {
        RestInput::Json(bytes) => from_json(&bytes),
        RestInput::Value(value) => serde_json::from_value(Value::Object(value)).map_err(|e| invalid_json(&e)),
        RestInput::Proto(bytes, merge) => {
            let mut message: T = from_proto(&bytes)?;
            let Some(merge) = merge else { return Ok(message) };
            let value = serde_json::to_value(&message)
                .map_err(|e| Error::internal("the request cannot be written as JSON").with_source(e))?;
            let Merged { whole, added } = merge(value)?;
            let read = |map| serde_json::from_value::<T>(Value::Object(map)).map_err(|e| invalid_json(&e));
            // What must not stand together, such as two fields of one oneof, is refused as in JSON. The message itself is
            // kept, because JSON has no unknown fields.
            read(whole)?;
            message.merge_from_slice(&read(added)?.encode_to_vec()).map_err(|e| invalid_proto(&e))?;
            Ok(message)
        }
        RestInput::Lines(_) | RestInput::Chunks(_) => {
            Err(Error::internal("a stream was bound to a method that takes one message"))
        }
    }
}

fn from_proto<T: Message>(bytes: &[u8]) -> Result<T> {
    T::decode_from_slice(bytes).map_err(|e| invalid_proto(&e))
}

fn invalid_proto(error: &buffa::DecodeError) -> Error {
    Error::invalid_argument(format!("the body is no protobuf message of this type: {error}"))
        .with_reason("INVALID_PROTOBUF")
}

fn decode_stream<T: Message>(input: RestInput) -> Result<Streaming<T>> {
    match input {
        RestInput::Lines(lines) => Ok(Streaming::new(lines.map(|line| from_json(&line?)))),
        RestInput::Chunks(chunks) => Ok(Streaming::new(chunks.map(|chunk| from_proto(&chunk?)))),
        one => Ok(Streaming::from_iter([decode::<T>(one)?])),
    }
}

fn encode<T: Message>(message: &T, encoding: Encoding) -> Result<Bytes> {
    match encoding {
        Encoding::Json => to_json(message),
        Encoding::Proto => Ok(message.encode_to_bytes()),
    }
}

fn stream<T: Message>(messages: Streaming<T>, encoding: Encoding) -> RestReply {
    RestReply::Stream(messages.try_map(move |message| encode(&message, encoding)))
}

impl<F, Fut, Req, Res> Handler for Unary<F, Req, Res>
where
    Req: Message,
    Res: Message,
    F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Res>> + Send + 'static,
{
    fn call_rest(&self, cx: Context, input: RestInput, encoding: Encoding) -> BoxFuture<Result<RestReply>> {
        let reply = decode(input).map(|message| (self.handler)(cx, message));
        async move { Ok(RestReply::Message(encode(&reply?.await?, encoding)?)) }.boxed()
    }
}

impl<F, Fut, Req, Res> Handler for ServerStreaming<F, Req, Res>
where
    Req: Message,
    Res: Message,
    F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Streaming<Res>>> + Send + 'static,
{
    fn call_rest(&self, cx: Context, input: RestInput, encoding: Encoding) -> BoxFuture<Result<RestReply>> {
        let reply = decode(input).map(|message| (self.handler)(cx, message));
        async move { Ok(stream(reply?.await?, encoding)) }.boxed()
    }
}

impl<F, Fut, Req, Res> Handler for ClientStreaming<F, Req, Res>
where
    Req: Message,
    Res: Message,
    F: Fn(Context, Streaming<Req>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Res>> + Send + 'static,
{
    fn call_rest(&self, cx: Context, input: RestInput, encoding: Encoding) -> BoxFuture<Result<RestReply>> {
        let reply = decode_stream(input).map(|messages| (self.handler)(cx, messages));
        async move { Ok(RestReply::Message(encode(&reply?.await?, encoding)?)) }.boxed()
    }
}

impl<F, Fut, Req, Res> Handler for BidiStreaming<F, Req, Res>
where
    Req: Message,
    Res: Message,
    F: Fn(Context, Streaming<Req>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Streaming<Res>>> + Send + 'static,
{
    fn call_rest(&self, cx: Context, input: RestInput, encoding: Encoding) -> BoxFuture<Result<RestReply>> {
        let reply = decode_stream(input).map(|messages| (self.handler)(cx, messages));
        async move { Ok(stream(reply?.await?, encoding)) }.boxed()
    }
}
