//! What generated clients call through.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bowline_core::{Code, Context, Error, MethodKind, Operation, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::{Body, Message, MethodDef, Streaming, envelope};

/// A future of any type.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries requests to servers: where a client's pipeline begins.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and answers with the response's head; its body follows. The request's URI names the method, the
    /// transport chooses the server. Whoever calls this bounds it by the context, with [`Context::run`]. A failure is one of
    /// the transport: what a server answers is a response.
    fn send(
        &self,
        cx: Context,
        operation: Operation,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>>>;

    /// How long a unary call may take whose context has no deadline. Without one, as long as the server takes.
    fn default_timeout(&self) -> Option<Duration> {
        None
    }
}

/// Calls methods through a [`Transport`], in gRPC.
///
/// The deadline of the [`Context`] bounds each call and is sent along as what remains of it. A context that is cancelled
/// ends the call here and, through the stream's reset, at the server.
#[derive(Clone)]
pub struct Caller {
    transport: Arc<dyn Transport>,
    authority: Authority,
    authorization: Option<HeaderValue>,
    default_timeout: Option<Duration>,
}

impl Caller {
    /// Calls through `transport`. `authority` is what servers see as `:authority`: a service's name or a host.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if `authority` is none.
    pub fn new(transport: impl Transport, authority: &str) -> Result<Self> {
        let authority = authority.parse().map_err(|e| {
            Error::invalid_argument(format!("`{authority}` cannot be sent as a request's authority"))
                .with_source(e)
        })?;
        let default_timeout = transport.default_timeout();
        Ok(Self { transport: Arc::new(transport), authority, authorization: None, default_timeout })
    }

    /// Sends a bearer token (RFC 6750) with every call.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it has characters that a header cannot have. It is not in the message.
    pub fn bearer(mut self, token: &str) -> Result<Self> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::invalid_argument("the token has characters that no header can have"))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Calls a method with one message each way. Its length is told ahead, so that a proxy can tell that it is short, keep it, and
    /// send it again where a server refuses it.
    ///
    /// # Errors
    /// What the server answered, why it could not be reached, or why the context ended.
    pub async fn unary<Req: Message, Res: Message>(
        &self,
        cx: &Context,
        def: &'static MethodDef,
        request: Req,
    ) -> Result<Res> {
        let cx = &self.bounded(cx);
        let sent = self.send(cx, def, Body::full(envelope::encode(&request)?));
        drop(request);
        let message = cx.run(async { Answer::new(sent.await?).await?.only().await }).await;
        decode(&message.flatten().map_err(|error| told(cx, error))?)
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
        let sent = self.send(cx, def, Body::full(envelope::encode(&request)?));
        drop(request);
        let answer = begun(cx, sent).await?;
        Ok(messages(cx.clone(), answer, Failure(None)).try_map(|message| decode(&message)))
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
        let (body, mut failure) = streamed(requests.try_map(|message| envelope::encode(&message)));
        let sent = self.send(cx, def, body);
        let answer = cx.run(async { Answer::new(sent.await?).await?.only().await });
        let message = tokio::select! {
            biased;
            error = failure.of_requests() => return Err(error),
            message = answer => message.flatten(),
        };
        decode(&message.map_err(|error| told(cx, error))?)
    }

    /// Calls a method with a stream each way. Requests are sent while the answer is read.
    ///
    /// # Errors
    /// As [`Caller::server_streaming`]; or the error in the stream.
    pub async fn bidi_streaming<Req: Message, Res: Message>(
        &self,
        cx: &Context,
        def: &'static MethodDef,
        requests: Streaming<Req>,
    ) -> Result<Streaming<Res>> {
        let requests = requests.try_map(|message| envelope::encode(&message));
        let path = PathAndQuery::from_static(def.path);
        let answers = self.bidi(cx, def.operation(), path, requests).await?;
        Ok(answers.try_map(|message| decode(&message)))
    }

    /// Calls a method of any kind with messages that are encoded already.
    ///
    /// # Errors
    /// What the server answered before its first message, or why it could not be reached.
    pub async fn raw(
        &self,
        cx: &Context,
        operation: Operation,
        requests: Streaming<Bytes>,
    ) -> Result<Streaming<Bytes>> {
        let path = PathAndQuery::try_from(operation.path())
            .map_err(|e| Error::invalid_argument("the method's name is no path").with_source(e))?;
        let unary = operation.kind() == MethodKind::Unary;
        let cx = if unary { self.bounded(cx) } else { cx.clone() };
        self.bidi(&cx, operation, path, requests.try_map(|message| envelope::wrap(&message))).await
    }

    async fn bidi(
        &self,
        cx: &Context,
        operation: Operation,
        path: PathAndQuery,
        envelopes: Streaming<Bytes>,
    ) -> Result<Streaming<Bytes>> {
        let (body, mut failure) = streamed(envelopes);
        let sent = self.transport.send(cx.clone(), operation, self.request(path, body));
        let answer = tokio::select! {
            biased;
            error = failure.of_requests() => return Err(error),
            answer = begun(cx, sent) => answer?,
        };
        Ok(messages(cx.clone(), answer, failure))
    }

    /// A unary call ends, whatever its caller forgot.
    fn bounded(&self, cx: &Context) -> Context {
        match self.default_timeout {
            Some(timeout) if cx.deadline().is_none() => cx.with_timeout(timeout),
            _ => cx.clone(),
        }
    }

    fn send(&self, cx: &Context, def: &'static MethodDef, body: Body) -> Sent {
        let request = self.request(PathAndQuery::from_static(def.path), body);
        self.transport.send(cx.clone(), def.operation(), request)
    }

    fn request(&self, path: PathAndQuery, body: Body) -> Request<Body> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        // All three parts are there, so that they always make a URI.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        // Room for what the transport adds, so that the map grows once.
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        *request.headers_mut() = headers;
        request
    }
}

type Sent = BoxFuture<'static, Result<Response<Body>>>;

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.authority)
    }
}

fn decode<T: Message>(message: &[u8]) -> Result<T> {
    T::decode_from_slice(message)
        .map_err(|e| Error::internal("the answer is no message of the method's type").with_source(e))
}

/// The answer, once its head is there.
async fn begun(cx: &Context, sent: Sent) -> Result<Answer> {
    let answer = cx.run(async { Answer::new(sent.await?).await }).await;
    answer.flatten().map_err(|error| told(cx, error))
}

/// The answer's messages. A failure of the requests ends them.
fn messages(cx: Context, answer: Answer, failure: Failure) -> Streaming<Bytes> {
    let state = Box::new((cx, answer, failure));
    Streaming::new(futures_util::stream::try_unfold(state, |mut state| async move {
        let (cx, answer, failure) = &mut *state;
        let next = tokio::select! {
            biased;
            error = failure.of_requests() => return Err(error),
            next = cx.run(answer.next()) => next.flatten().map_err(|error| told(cx, error))?,
        };
        Ok(next.map(|message| (message, state)))
    }))
}

/// Where an error among the requests arrives.
struct Failure(Option<oneshot::Receiver<Error>>);

impl Failure {
    /// The error, once there is one.
    async fn of_requests(&mut self) -> Error {
        if let Some(failed) = &mut self.0 {
            let received = failed.await;
            self.0 = None;
            if let Ok(error) = received {
                return error;
            }
        }
        std::future::pending().await
    }
}

/// What a failed call means to its caller. A context that ended explains what the transport saw of it.
fn told(cx: &Context, error: Error) -> Error {
    let maybe_ours = matches!(
        error.code(),
        Code::Canceled | Code::Unavailable | Code::Internal | Code::Unknown | Code::DeadlineExceeded
    );
    match cx.error() {
        Some(ended) if maybe_ours && !error.is_timeout() => ended.with_source(error),
        _ => error,
    }
}

/// A body of what is sent while the answer is read. An error among it goes to the receiver, and the body never ends: the
/// call is dropped for it, and the server sees it broken off.
fn streamed(mut envelopes: Streaming<Bytes>) -> (Body, Failure) {
    let (failed, failure) = oneshot::channel();
    let mut failed = Some(failed);
    let frames = futures_util::stream::poll_fn(move |task: &mut Task<'_>| {
        match std::task::ready!(envelopes.poll_next_unpin(task)) {
            Some(Ok(envelope)) => Poll::Ready(Some(Ok::<_, Error>(Frame::data(envelope)))),
            Some(Err(error)) => {
                if let Some(failed) = failed.take() {
                    let _ = failed.send(error);
                }
                Poll::Pending
            }
            None if failed.is_some() => Poll::Ready(None),
            None => Poll::Pending,
        }
    });
    (Body::new(StreamBody::new(frames)), Failure(Some(failure)))
}
