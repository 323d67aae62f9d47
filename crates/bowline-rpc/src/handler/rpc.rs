//! Handlers called by connectrpc: a dispatcher per method, so that a path is looked up once, by our router.

use std::sync::Arc;

use bowline_core::{Context, Error, MethodKind, Result};
use bytes::Bytes;
use connectrpc::dispatcher::{RequestStream, StreamingResult, UnaryResult};
use connectrpc::{
    CodecFormat, ConnectError, Dispatcher, EncodedResponse, MethodDescriptor, Payload, RequestContext,
    Response,
};
use futures_util::{FutureExt, StreamExt};

use super::{BidiStreaming, Call, ClientStreaming, Handler, Message, ServerStreaming, Unary, outgoing};
use crate::protocol::grpc_error;
use crate::scope::Scope;
use crate::streaming::Sent;
use crate::wire;
use crate::{Body, Streaming};

/// One method's handler, called with encoded messages. Each kind of method has its own way in; the others are refused.
pub(crate) trait RpcHandler: Send + Sync + 'static {
    /// Answers a gRPC request that asks for nothing special, if the method is unary; only then it is called.
    fn call_plain(self: Arc<Self>, _: Scope, _: Body, _: usize) -> super::BoxFuture<http::Response<Body>> {
        let error = Error::internal("a streaming method was called as a unary one");
        std::future::ready(grpc_error(&error, None)).boxed()
    }

    fn call_unary(&self, _: RequestContext, _: Payload, _: CodecFormat) -> UnaryResult {
        wrong_kind()
    }

    fn call_server_streaming(&self, _: RequestContext, _: Bytes, _: CodecFormat) -> StreamingResult {
        wrong_kind()
    }

    fn call_client_streaming(&self, _: RequestContext, _: RequestStream, _: CodecFormat) -> UnaryResult {
        wrong_kind()
    }

    fn call_bidi_streaming(&self, _: RequestContext, _: RequestStream, _: CodecFormat) -> StreamingResult {
        wrong_kind()
    }
}

/// A call of another kind than the method's. connectrpc asks for the kind first and never makes one.
fn wrong_kind<T: Send + 'static>() -> super::BoxFuture<Result<T, ConnectError>> {
    async { Err(ConnectError::unimplemented("the method is of another streaming kind")) }.boxed()
}

/// A method's handler of any type, as connectrpc's dispatcher.
pub(crate) struct Erased {
    handler: Arc<dyn Handler>,
    descriptor: MethodDescriptor,
}

impl Erased {
    pub(crate) fn new(handler: Arc<dyn Handler>, kind: MethodKind) -> Self {
        let descriptor = match kind {
            MethodKind::Unary => MethodDescriptor::unary(false),
            MethodKind::ServerStreaming => MethodDescriptor::server_streaming(),
            MethodKind::ClientStreaming => MethodDescriptor::client_streaming(),
            MethodKind::BidiStreaming => MethodDescriptor::bidi_streaming(),
        };
        Self { handler, descriptor }
    }
}

impl Dispatcher for Erased {
    fn lookup(&self, _: &str) -> Option<MethodDescriptor> {
        Some(self.descriptor)
    }

    fn call_unary(&self, _: &str, cx: RequestContext, message: Payload, format: CodecFormat) -> UnaryResult {
        self.handler.call_unary(cx, message, format)
    }

    fn call_server_streaming(
        &self,
        _: &str,
        cx: RequestContext,
        message: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        self.handler.call_server_streaming(cx, message, format)
    }

    fn call_client_streaming(
        &self,
        _: &str,
        cx: RequestContext,
        messages: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        self.handler.call_client_streaming(cx, messages, format)
    }

    fn call_bidi_streaming(
        &self,
        _: &str,
        cx: RequestContext,
        messages: RequestStream,
        format: CodecFormat,
    ) -> StreamingResult {
        self.handler.call_bidi_streaming(cx, messages, format)
    }
}

/// A message that is not what the method takes.
fn undecodable<T: Send + 'static>(
    request: &mut RequestContext,
    error: ConnectError,
) -> super::BoxFuture<Result<T, ConnectError>> {
    Call::take(request).outcome.fail_with(wire::code_from_connect(error.code));
    std::future::ready(Err(error)).boxed()
}

fn encode<T: Message>(message: &T, format: CodecFormat) -> Result<EncodedResponse> {
    let bytes = match format {
        CodecFormat::Proto => message.encode_to_bytes(),
        CodecFormat::Json => super::to_json(message)?,
        // The enum is open; a codec we do not know cannot have been negotiated.
        _ => return Err(Error::unimplemented("unknown codec")),
    };
    Ok(Response::new(bytes.into()))
}

fn incoming<Req: Message>(
    request: &RequestContext,
    messages: RequestStream,
    format: CodecFormat,
) -> Streaming<Req> {
    let options = request.decode_options().clone();
    Streaming::new(messages.map(move |item| {
        let payload =
            Payload::new(item.map_err(wire::from_connect)?, format).with_decode_options(options.clone());
        payload.take_message::<Req>().map_err(wire::from_connect)
    }))
}

fn reply<Res: Message>(
    call: Call,
    messages: Streaming<Res>,
    format: CodecFormat,
) -> Response<connectrpc::EncodedStream> {
    let Call { cx, outcome } = call;
    let (err_cx, err_outcome) = (cx.clone(), outcome.clone());
    let items = outgoing(cx, outcome, messages.sent(), move |sent| match (sent, format) {
        (Sent::Encoded(bytes, _), CodecFormat::Proto) => Ok(bytes.into()),
        (sent, format) => encode(&sent.message()?, format).map(|response| response.body),
    });
    Response::new(
        items.map(move |item| item.map_err(|error: Error| Call::fail(&err_cx, &err_outcome, error))).boxed(),
    )
}

impl<F, Fut, Req, Res> RpcHandler for Unary<F, Req, Res>
where
    Req: Message,
    Res: Message,
    F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Res>> + Send + 'static,
{
    fn call_plain(
        self: Arc<Self>,
        scope: Scope,
        body: Body,
        limit: usize,
    ) -> super::BoxFuture<http::Response<Body>> {
        Box::pin(async move { super::grpc::respond(&self.handler, scope, body, limit).await })
    }

    fn call_unary(&self, mut request: RequestContext, payload: Payload, format: CodecFormat) -> UnaryResult {
        let message = match payload.take_message::<Req>() {
            Ok(message) => message,
            Err(error) => return undecodable(&mut request, error),
        };
        let Call { cx, outcome } = Call::take(&mut request);
        let reply = (self.handler)(cx.clone(), message);
        Box::pin(async move {
            let reply = reply.await.and_then(|reply| encode(&reply, format));
            Call::finish(&cx, &outcome, reply)
        })
    }
}

impl<F, Fut, Req, Res> RpcHandler for ServerStreaming<F, Req, Res>
where
    Req: Message,
    Res: Message,
    F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Streaming<Res>>> + Send + 'static,
{
    fn call_server_streaming(
        &self,
        mut request: RequestContext,
        message: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        let payload = Payload::new(message, format).with_decode_options(request.decode_options().clone());
        let message = match payload.take_message::<Req>() {
            Ok(message) => message,
            Err(error) => return undecodable(&mut request, error),
        };
        let call = Call::take(&mut request);
        let replies = (self.handler)(call.cx.clone(), message);
        Box::pin(async move {
            match replies.await {
                Ok(messages) => Ok(reply(call, messages, format)),
                Err(error) => Err(Call::fail(&call.cx, &call.outcome, error)),
            }
        })
    }
}

impl<F, Fut, Req, Res> RpcHandler for ClientStreaming<F, Req, Res>
where
    Req: Message,
    Res: Message,
    F: Fn(Context, Streaming<Req>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Res>> + Send + 'static,
{
    fn call_client_streaming(
        &self,
        mut request: RequestContext,
        messages: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        let messages = incoming(&request, messages, format);
        let Call { cx, outcome } = Call::take(&mut request);
        let reply = (self.handler)(cx.clone(), messages);
        Box::pin(async move {
            let reply = reply.await.and_then(|reply| encode(&reply, format));
            Call::finish(&cx, &outcome, reply)
        })
    }
}

impl<F, Fut, Req, Res> RpcHandler for BidiStreaming<F, Req, Res>
where
    Req: Message,
    Res: Message,
    F: Fn(Context, Streaming<Req>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Streaming<Res>>> + Send + 'static,
{
    fn call_bidi_streaming(
        &self,
        mut request: RequestContext,
        messages: RequestStream,
        format: CodecFormat,
    ) -> StreamingResult {
        let messages = incoming(&request, messages, format);
        let call = Call::take(&mut request);
        let replies = (self.handler)(call.cx.clone(), messages);
        Box::pin(async move {
            match replies.await {
                Ok(messages) => Ok(reply(call, messages, format)),
                Err(error) => Err(Call::fail(&call.cx, &call.outcome, error)),
            }
        })
    }
}
