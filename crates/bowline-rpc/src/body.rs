//! One body type for every request and response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};

use bowline_core::{BoxError, Error, Result};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::budget::Meter;
use crate::headers::GRPC_STATUS;

/// How a body came to its end.
#[derive(Debug)]
pub enum End<'a> {
    /// All of it was read; with the trailers, where there were any.
    Complete(Option<&'a HeaderMap>),
    /// It broke.
    Failed(&'a Error),
    /// Whoever read it went away first.
    Dropped,
}

type OnEnd = Box<dyn FnOnce(End<'_>) + Send>;

/// The body of a request or a response: in memory, from the network, or made as it is read.
///
/// Every source is one variant, so that the common ones need no allocation and no dynamic call.
pub struct Body {
    source: Source,
    on_end: Option<OnEnd>,
    meter: Option<Box<Meter>>,
}

enum Source {
    Empty,
    Full(Bytes),
    /// gRPC's answer of one message, and the trailers that say that all went well; or these alone. Its length is not told
    /// ahead: the envelope tells it.
    Success(Option<Bytes>),
    Incoming(hyper::body::Incoming),
    /// Large, and not on the quick ways: every body would have its size.
    Rpc(Pin<Box<connectrpc::ConnectRpcBody>>),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// Nothing.
    pub const fn empty() -> Self {
        Self::from_source(Source::Empty)
    }

    /// What is in memory already.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self::from_source(Source::Full(bytes)) }
    }

    /// gRPC's answer of one message: its envelope, and trailers that say that all went well.
    pub(crate) const fn success(envelope: Bytes) -> Self {
        Self::from_source(Source::Success(Some(envelope)))
    }

    /// Any other body.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::from_source(Source::Boxed(Box::pin(http_body_util::BodyExt::map_err(body, Into::into))))
    }

    const fn from_source(source: Source) -> Self {
        Self { source, on_end: None, meter: None }
    }

    pub(crate) fn rpc(body: connectrpc::ConnectRpcBody) -> Self {
        Self::from_source(Source::Rpc(Box::pin(body)))
    }

    /// Counts what arrives, and breaks once it is too much.
    #[must_use]
    pub(crate) fn metered(mut self, meter: Meter) -> Self {
        self.meter = Some(Box::new(meter));
        self
    }

    /// Calls `observer` once: when the body is complete, breaks or is dropped. An earlier observer is called too.
    #[must_use]
    pub fn on_end(mut self, observer: impl FnOnce(End<'_>) + Send + 'static) -> Self {
        self.on_end = Some(match self.on_end.take() {
            None => Box::new(observer),
            Some(earlier) => Box::new(move |end| {
                let copy = match &end {
                    End::Complete(trailers) => End::Complete(*trailers),
                    End::Failed(error) => End::Failed(error),
                    End::Dropped => End::Dropped,
                };
                earlier(copy);
                observer(end);
            }),
        });
        self
    }

    /// The bytes, if they are in memory.
    pub fn as_full(&self) -> Option<Bytes> {
        match &self.source {
            Source::Empty => Some(Bytes::new()),
            Source::Full(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Reads all of it, but no more than `limit` bytes.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is more; whatever broke the body otherwise.
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes> {
        let too_large = || {
            Error::resource_exhausted(format!("the body is larger than the limit of {limit} bytes"))
                .with_reason("BODY_TOO_LARGE")
        };
        if self.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|task| Pin::new(&mut *self).poll_frame(task)).await {
            let Ok(data) = frame?.into_data() else { continue };
            if first.as_ref().map_or(0, Bytes::len) + rest.len() + data.len() > limit {
                return Err(too_large());
            }
            // One frame is the common case and costs no copy.
            match &first {
                None => first = Some(data),
                Some(_) => rest.extend_from_slice(&data),
            }
        }
        Ok(match first {
            None => Bytes::new(),
            Some(first) if rest.is_empty() => first,
            Some(first) => [first, rest.freeze()].concat().into(),
        })
    }

    fn ended(&mut self, end: End<'_>) {
        if let Some(on_end) = self.on_end.take() {
            on_end(end);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let frame = match &mut this.source {
            Source::Empty => None,
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Source::Success(envelope) => Some(Ok(match envelope.take() {
                Some(envelope) => Frame::data(envelope),
                None => {
                    this.source = Source::Empty;
                    let mut trailers = HeaderMap::with_capacity(1);
                    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
                    Frame::trailers(trailers)
                }
            })),
            Source::Incoming(body) => ready!(Pin::new(body).poll_frame(task)).map(|f| f.map_err(broken)),
            Source::Rpc(body) => ready!(body.as_mut().poll_frame(task)).map(|f| f.map_err(Error::from_std)),
            Source::Boxed(body) => ready!(body.as_mut().poll_frame(task)).map(|f| f.map_err(Error::from_std)),
        };
        let frame = match (&mut this.meter, frame) {
            (Some(meter), Some(Ok(arrived))) => {
                let counted = arrived.data_ref().map_or(Ok(()), |data| meter.count(data));
                Some(counted.map(|()| arrived))
            }
            (_, frame) => frame,
        };
        if this.on_end.is_some() {
            match &frame {
                None => this.ended(End::Complete(None)),
                Some(Err(error)) => this.ended(End::Failed(error)),
                Some(Ok(frame)) if frame.is_trailers() => this.ended(End::Complete(frame.trailers_ref())),
                Some(Ok(_)) if HttpBody::is_end_stream(this) => this.ended(End::Complete(None)),
                Some(Ok(_)) => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(_) | Source::Success(_) => false,
            Source::Incoming(body) => body.is_end_stream(),
            Source::Rpc(body) => body.is_end_stream(),
            Source::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // At least: it is not told ahead.
            Source::Success(envelope) => {
                let mut hint = SizeHint::default();
                hint.set_lower(envelope.as_ref().map_or(0, |envelope| envelope.len() as u64));
                hint
            }
            Source::Incoming(body) => body.size_hint(),
            Source::Rpc(body) => body.size_hint(),
            Source::Boxed(body) => body.size_hint(),
        }
    }
}

/// A body that breaks off was cut by its sender or by the network.
fn broken(error: hyper::Error) -> Error {
    if error.is_timeout() {
        return Error::deadline_exceeded("the body did not arrive in time").with_source(error);
    }
    let why = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::canceled(format!("the body broke off{why}")).with_source(error)
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.on_end.is_some() {
            let end = if HttpBody::is_end_stream(self) { End::Complete(None) } else { End::Dropped };
            self.ended(end);
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<hyper::body::Incoming> for Body {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::from_source(Source::Incoming(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", self.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        assert_eq!(Body::full("12345").collect(5).await.unwrap(), "12345");
        let error = Body::full("123456").collect(5).await.unwrap_err();
        assert_eq!(error.reason(), "BODY_TOO_LARGE");
    }

    #[tokio::test]
    async fn the_end_is_told_once() {
        let ends = Arc::new(Mutex::new(Vec::new()));
        let observe = || {
            let ends = Arc::clone(&ends);
            move |end: End<'_>| ends.lock().unwrap().push(matches!(end, End::Complete(_)))
        };
        Body::full("1").on_end(observe()).collect(9).await.unwrap();
        drop(Body::full("1").on_end(observe()).on_end(observe()));
        drop(Body::empty().on_end(observe()));
        assert_eq!(*ends.lock().unwrap(), [true, false, false, true]);
    }
}
