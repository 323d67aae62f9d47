//! One connection, and what can go wrong on it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bowline_core::task::Tracker;
use bowline_core::{Error, Result, WrapErr};
use bowline_rpc::Body;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, oneshot};
use tokio_util::io::InspectReader;
use tokio_util::task::TaskTracker;

use crate::ChannelOptions;
use crate::connect::Io;

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It never left; here it is again.
    Unsent(Box<Request<Body>>, Error),
    /// The server says that it did not begin it.
    Refused(Error),
    /// It may have been processed.
    Broken(Error),
}

impl Failure {
    fn of(mut failed: TrySendError<Request<Body>>) -> Self {
        let unsent = failed.take_message();
        let error = failed.into_error();
        let refused = is_refused(&error);
        let error = told(error);
        match unsent {
            Some(request) => Self::Unsent(Box::new(request), error),
            None if refused => Self::Refused(error),
            None => Self::Broken(error),
        }
    }
}

/// Whether the server provably did not begin the request: its stream was refused, or came after the last one that a
/// graceful GOAWAY names (RFC 9113, 6.8 and 8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let reason = cause.reason();
        cause.is_remote()
            && (reason == Some(h2::Reason::REFUSED_STREAM)
                || (cause.is_go_away() && reason == Some(h2::Reason::NO_ERROR)))
    })
}

fn told(error: hyper::Error) -> Error {
    let why = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::unavailable(format!("the connection failed{why}"))
        .with_public_message("the connection to the service failed")
        .with_reason("CONNECTION_FAILED")
        .with_source(error)
}

/// hyper's own tasks of a connection. They end with it, and it belongs to the channel; so they need no abort of their own.
#[derive(Clone)]
struct Owned(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Owned {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// An HTTP/2 connection: many requests at a time.
#[derive(Debug)]
pub(crate) struct Http2 {
    sender: http2::SendRequest<Body>,
    in_flight: AtomicUsize,
    /// How many streams the server allows; kept up to date by the connection's task.
    allowed: Arc<AtomicUsize>,
    /// Tells that task of the first answer.
    answered: Arc<Notify>,
    is_answered: AtomicBool,
}

/// A request's stream on a connection.
#[derive(Debug)]
pub(crate) struct Stream(Arc<Http2>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.0.is_answered.load(Ordering::Relaxed) && !self.0.is_answered.swap(true, Ordering::Relaxed) {
            self.0.answered.notify_one();
        }
    }
}

impl Http2 {
    /// Shakes hands, until the server has spoken: it may have been going down, with the kernel accepting what it never will.
    /// What is sent on such a connection is lost, and nobody could tell that from what was begun. `ended` is called when the
    /// connection is gone.
    pub(crate) async fn open(
        io: Io,
        options: &ChannelOptions,
        tasks: &Tracker,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<Self>> {
        let (heard, first_word) = oneshot::channel();
        let mut heard = Some(heard);
        let io = InspectReader::new(io, move |read: &[u8]| {
            if !read.is_empty()
                && let Some(heard) = heard.take()
            {
                // Nobody waits any more where connecting took too long.
                let _ = heard.send(());
            }
        });
        let (sender, mut connection) = http2::Builder::new(Owned(TaskTracker::new()))
            .timer(TokioTimer::new())
            .keep_alive_interval(options.ping_interval)
            .keep_alive_timeout(options.ping_timeout)
            .handshake::<_, Body>(TokioIo::new(io))
            .await
            .context("HTTP/2 handshake")?;
        let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let answered = Arc::new(Notify::new());
        let (told, first_answer) = (Arc::clone(&allowed), Arc::clone(&answered));
        tasks.spawn(async move {
            let driven = std::future::poll_fn(|task| {
                let state = Pin::new(&mut connection).poll(task);
                told.store(connection.current_max_send_streams(), Ordering::Relaxed);
                state
            });
            let mut driven = std::pin::pin!(driven);
            // hyper reads the server's settings in a task of its own. They are there with the first answer, which is when
            // this one looks; after that it looks with every request.
            let ended_early = tokio::select! {
                ended = driven.as_mut() => Some(ended),
                () = first_answer.notified() => None,
            };
            let ended_at = match ended_early {
                Some(ended) => ended,
                None => driven.await,
            };
            if let Err(error) = ended_at {
                tracing::debug!(%error, "connection ended");
            }
            ended();
        });
        let silent = "the server closed the connection before it said a word";
        first_word.await.map_err(|_| Error::unavailable(silent))?;
        Ok(Arc::new(Self {
            sender,
            in_flight: AtomicUsize::new(0),
            allowed,
            answered,
            is_answered: AtomicBool::new(false),
        }))
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many more streams the server allows.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight() < self.allowed.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Stream {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Stream(Arc::clone(self))
    }
}

impl Stream {
    pub(crate) async fn send(&self, request: Box<Request<Body>>) -> Result<Response<Body>, Failure> {
        let mut sender = self.0.sender.clone();
        match sender.try_send_request(*request).await {
            Ok(response) => Ok(response.map(Body::from)),
            Err(failed) => Err(Failure::of(failed)),
        }
    }
}

/// An HTTP/1.1 connection: one request at a time.
#[derive(Debug)]
pub(crate) struct Http1 {
    sender: http1::SendRequest<Body>,
}

impl Http1 {
    pub(crate) async fn open(io: Io, tasks: &Tracker) -> Result<Self> {
        let (sender, connection) =
            http1::handshake::<_, Body>(TokioIo::new(io)).await.context("HTTP/1.1 handshake")?;
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(Self { sender })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Waits until it can take the next request; false if it never will.
    pub(crate) async fn is_free(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(crate) async fn send(&mut self, mut request: Box<Request<Body>>) -> Result<Response<Body>, Failure> {
        origin_form(&mut request);
        match self.sender.try_send_request(*request).await {
            Ok(response) => Ok(response.map(Body::from)),
            Err(failed) => Err(Failure::of(failed)),
        }
    }
}

/// HTTP/1.1 has the host in a header and only the path in the first line.
fn origin_form(request: &mut Request<Body>) {
    if let Some(host) = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    *request.version_mut() = http::Version::HTTP_11;
}
