//! What generated clients call through.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Task, Poll, Waker};

use bowline_core::{Code, Context, Error, Operation, Result};
use bytes::Bytes;
use connectrpc::client::{
    BoxFuture as ConnectFuture, CallOptions, ClientBody, ClientConfig, ClientTransport, call_bidi_stream,
    call_client_stream, call_server_stream, call_unary,
};
use connectrpc::{ConnectError, Spec, StreamType};
use futures_util::StreamExt;
use http_body::Body as _;

use crate::wire::{self, Local};
use crate::{Body, Message, MethodDef, Streaming};

/// A future of any type.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries requests to servers: where a client's pipeline begins.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and answers with the response's head; its body follows. The request's URI names the method, the
    /// transport chooses the server. Whoever calls this bounds it by the context, with [`Context::run`]. A failure is one of the transport: what a server answers is a response.
    fn send(
        &self,
        cx: Context,
        operation: Operation,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>>>;
}

/// Calls methods through a [`Transport`], in gRPC.
///
/// The deadline of the [`Context`] bounds each call and is sent along as what remains of it. A context that is cancelled
/// ends the call here and, through the stream's reset, at the server.
#[derive(Clone)]
pub struct Caller {
    transport: Arc<dyn Transport>,
    config: Arc<ClientConfig>,
}

impl Caller {
    /// Calls through `transport`. `authority` is what servers see as `:authority`: a service's name or a host.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if `authority` is none.
    pub fn new(transport: impl Transport, authority: &str) -> Result<Self> {
        let uri = http::Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        let uri = uri.map_err(|e| {
            Error::invalid_argument(format!("`{authority}` cannot be sent as a request's authority"))
                .with_source(e)
        })?;
        let config = ClientConfig::new(uri).with_protocol(connectrpc::Protocol::Grpc);
        Ok(Self { transport: Arc::new(transport), config: Arc::new(config) })
    }

    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    /// The URI of a path at this caller's authority.
    pub(crate) fn uri(&self, path: &str) -> Result<http::Uri> {
        let mut parts = self.config.base_uri().clone().into_parts();
        let path = path.parse();
        parts.path_and_query =
            Some(path.map_err(|e| Error::invalid_argument("the method's name is no path").with_source(e))?);
        http::Uri::from_parts(parts)
            .map_err(|e| Error::invalid_argument("the method's name is no path").with_source(e))
    }

    fn call(&self, cx: &Context, def: &'static MethodDef) -> Call {
        Call { transport: Arc::clone(&self.transport), cx: cx.clone(), def }
    }

    /// Calls a method with one message each way.
    ///
    /// # Errors
    /// What the server answered, why it could not be reached, or why the context ended.
    pub async fn unary<Req: Message, Res: Message>(
        &self,
        cx: &Context,
        def: &'static MethodDef,
        request: Req,
    ) -> Result<Res> {
        let call = self.call(cx, def);
        let spec = Spec::client(def.path, StreamType::Unary);
        let answer = call_unary::<_, _, Res::View<'static>>(
            &call,
            &self.config,
            spec,
            request,
            CallOptions::default(),
        );
        let answer = cx.run(answer).await?.map_err(|error| told(cx, error))?;
        Ok(answer.into_owned())
    }

    /// Calls a method that answers with a stream.
    ///
    /// # Errors
    /// As [`Caller::unary`], until the answer begins; later ones are the stream's last item.
    pub async fn server_streaming<Req: Message, Res: Message>(
        &self,
        cx: &Context,
        def: &'static MethodDef,
        request: Req,
    ) -> Result<Streaming<Res>> {
        let call = self.call(cx, def);
        let spec = Spec::client(def.path, StreamType::ServerStream);
        let answer = call_server_stream::<_, _, Res::View<'static>>(
            &call,
            &self.config,
            spec,
            request,
            CallOptions::default(),
        );
        let stream = cx.run(answer).await?.map_err(|error| told(cx, error))?;
        let state = (cx.clone(), stream);
        Ok(Streaming::new(futures_util::stream::try_unfold(state, |(cx, mut stream)| async move {
            let next = cx.run(stream.message::<Res>()).await?.map_err(|error| told(&cx, error))?;
            Ok(next.map(|message| (message.to_owned_message(), (cx, stream))))
        })))
    }

    /// Calls a method that takes a stream. An error in the stream ends the call: the server sees it broken off, never as
    /// complete.
    ///
    /// # Errors
    /// As [`Caller::unary`]; or the error in the stream.
    pub async fn client_streaming<Req: Message, Res: Message>(
        &self,
        cx: &Context,
        def: &'static MethodDef,
        requests: Streaming<Req>,
    ) -> Result<Res> {
        let call = self.call(cx, def);
        let spec = Spec::client(def.path, StreamType::ClientStream);
        let (failed, failure) = tokio::sync::oneshot::channel();
        let requests = until_failure(requests, failed);
        let answer = call_client_stream::<_, _, Res::View<'static>>(
            &call,
            &self.config,
            spec,
            requests,
            CallOptions::default(),
        );
        let answer = tokio::select! {
            biased;
            answer = cx.run(answer) => answer,
            Ok(error) = failure => return Err(error),
        };
        Ok(answer?.map_err(|error| told(cx, error))?.into_owned())
    }

    /// Calls a method with a stream each way. Requests are sent while the answer is read.
    ///
    /// # Errors
    /// As [`Caller::server_streaming`].
    pub async fn bidi_streaming<Req: Message, Res: Message>(
        &self,
        cx: &Context,
        def: &'static MethodDef,
        requests: Streaming<Req>,
    ) -> Result<Streaming<Res>> {
        let call = self.call(cx, def);
        let spec = Spec::client(def.path, StreamType::BidiStream);
        let stream =
            call_bidi_stream::<_, Req, Res::View<'static>>(&call, &self.config, spec, CallOptions::default());
        let stream = cx.run(stream).await?.map_err(|error| told(cx, error))?;
        let (mut send, recv) = stream.into_split();
        let mut requests = requests;
        let sending: BoxFuture<'static, Result<()>> = Box::pin(async move {
            while let Some(request) = requests.message().await? {
                if send.send(request).await.is_err() {
                    // The server has ended the call; the answer says how.
                    break;
                }
            }
            send.close_send();
            Ok(())
        });
        let answers = futures_util::stream::try_unfold((cx.clone(), recv), |(cx, mut recv)| async move {
            let next = cx.run(recv.message::<Res>()).await?.map_err(|error| told(&cx, error))?;
            Ok(next.map(|message| (message.to_owned_message(), (cx, recv))))
        });
        Ok(Streaming::new(Bidi { sending: Some(sending), answers: Box::pin(answers) }))
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.config.base_uri())
    }
}

/// One call on its way through connectrpc's client.
#[derive(Clone)]
struct Call {
    transport: Arc<dyn Transport>,
    cx: Context,
    def: &'static MethodDef,
}

impl ClientTransport for Call {
    type ResponseBody = Body;
    type Error = Local;

    fn send(
        &self,
        request: http::Request<ClientBody>,
    ) -> ConnectFuture<'static, Result<http::Response<Body>, Local>> {
        let request = request
            .map(|body| if self.def.kind.client_streams() { Body::new(body) } else { in_memory(body) });
        let answer = self.transport.send(self.cx.clone(), self.def.operation(), request);
        Box::pin(async move { answer.await.map_err(Local::new) })
    }
}

/// A message that is encoded already, out of the box it came in: then it can be sent again.
fn in_memory(mut body: ClientBody) -> Body {
    let exact = body.size_hint().exact();
    let frame = Pin::new(&mut body).poll_frame(&mut Task::from_waker(Waker::noop()));
    match frame {
        Poll::Ready(None) => Body::empty(),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) if Some(data.len() as u64) == exact => Body::full(data),
            Ok(data) => Body::new(Prefixed { first: Some(data), rest: body }),
            Err(_) => Body::new(body),
        },
        _ => Body::new(body),
    }
}

/// A body whose first frame was taken out to look at it.
struct Prefixed {
    first: Option<Bytes>,
    rest: ClientBody,
}

impl http_body::Body for Prefixed {
    type Data = Bytes;
    type Error = ConnectError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, ConnectError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(http_body::Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(task),
        }
    }
}

/// What a failed call means to its caller. A context that ended explains what the transport saw of it.
fn told(cx: &Context, error: ConnectError) -> Error {
    let error = wire::from_connect(error);
    let maybe_ours = matches!(
        error.code(),
        Code::Canceled | Code::Unavailable | Code::Internal | Code::Unknown | Code::DeadlineExceeded
    );
    match cx.error() {
        Some(ended) if maybe_ours && !error.is_timeout() => ended.with_source(error),
        _ => error,
    }
}

/// The messages up to an error; then nothing more, for ever, and the error goes to `failed`.
fn until_failure<T: Send + 'static>(
    messages: Streaming<T>,
    failed: tokio::sync::oneshot::Sender<Error>,
) -> impl futures_core::Stream<Item = T> + Send + 'static {
    futures_util::stream::unfold((messages, Some(failed)), |(mut messages, mut failed)| async move {
        match messages.message().await {
            Ok(next) => next.map(|message| (message, (messages, failed))),
            Err(error) => {
                if let Some(failed) = failed.take() {
                    let _ = failed.send(error);
                }
                std::future::pending().await
            }
        }
    })
}

/// Answers, with the requests sent in the same polls: no task, so nothing to own.
struct Bidi<T> {
    sending: Option<BoxFuture<'static, Result<()>>>,
    answers: Pin<Box<dyn futures_core::Stream<Item = Result<T>> + Send>>,
}

impl<T> futures_core::Stream for Bidi<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<T>>> {
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = pin!(sending).poll(task)
        {
            self.sending = None;
            if let Err(error) = sent {
                return Poll::Ready(Some(Err(error)));
            }
        }
        self.answers.poll_next_unpin(task)
    }
}
