//! Answers that are made once and given often.

use std::pin::Pin;
use std::task::{Context as Task, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response};
use http_body::Body as _;

use crate::{Body, Protocol};

/// What decides how an error looks on the wire, besides the error itself: the protocol, and what that leaves to the type of
/// the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form(usize);

/// The types of body by which gRPC-Web and Connect choose how to tell an error, as clients write them.
const TYPES: [(Protocol, &[u8]); 9] = [
    (Protocol::GrpcWeb, b"application/grpc-web+proto"),
    (Protocol::GrpcWeb, b"application/grpc-web"),
    (Protocol::GrpcWeb, b"application/grpc-web-text"),
    (Protocol::GrpcWeb, b"application/grpc-web-text+proto"),
    (Protocol::GrpcWeb, b"application/grpc-web+json"),
    (Protocol::Connect, b"application/proto"),
    (Protocol::Connect, b"application/json"),
    (Protocol::Connect, b"application/connect+proto"),
    (Protocol::Connect, b"application/connect+json"),
];

impl Form {
    /// How many there are.
    pub const COUNT: usize = 2 + TYPES.len();

    /// That of a request of `protocol` with these headers. `None` where its client writes the type of its body as few do: what
    /// callers make up must not fill anybody's memory.
    pub fn of(protocol: Protocol, headers: &HeaderMap) -> Option<Self> {
        match protocol {
            Protocol::Grpc => return Some(Self(0)),
            Protocol::Rest => return Some(Self(1)),
            Protocol::GrpcWeb | Protocol::Connect => {}
        }
        let content_type = headers.get(CONTENT_TYPE)?.as_bytes();
        // A parameter, such as `charset=utf-8`, changes nothing in an answer.
        let bare = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
        let content_type = if protocol == Protocol::Connect { bare } else { content_type };
        let known = TYPES.iter().position(|known| *known == (protocol, content_type))?;
        Some(Self(2 + known))
    }

    /// A number below [`Form::COUNT`], for tables.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// An answer that is in memory as it goes over the wire: to give it once more is to count who holds it.
///
/// ```
/// use bowline_core::Error;
/// use bowline_rpc::{Protocol, ReadyMade};
///
/// let error = Error::unavailable("closed until nine");
/// let answer = Protocol::Rest.error_response(&error, None, &http::HeaderMap::new());
/// let closed = ReadyMade::of(answer).unwrap();
/// assert_eq!(closed.response().status(), 503);
/// ```
#[derive(Clone, Debug)]
pub struct ReadyMade {
    head: Response<()>,
    body: Bytes,
}

impl ReadyMade {
    /// Keeps an answer. `None` if its body is not there at once, breaks, or has trailers.
    pub fn of(response: Response<Body>) -> Option<Self> {
        let (parts, mut body) = response.into_parts();
        let mut bytes = BytesMut::new();
        let task = &mut Task::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut body).poll_frame(task) {
                Poll::Ready(Some(Ok(frame))) => bytes.extend_from_slice(&frame.into_data().ok()?),
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(_))) | Poll::Pending => return None,
            }
        }
        Some(Self { head: Response::from_parts(parts, ()), body: bytes.freeze() })
    }

    /// The answer, once more.
    pub fn response(&self) -> Response<Body> {
        let body = if self.body.is_empty() { Body::empty() } else { Body::full(self.body.clone()) };
        self.head.clone().map(|()| body)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bowline_core::{Code, Error};
    use http::{HeaderValue, StatusCode};

    use super::*;

    fn busy() -> Error {
        Error::refusal(Code::ResourceExhausted, "too much: 100 %")
            .with_reason("OVERLOADED")
            .with_retry_after(Duration::from_millis(1_500))
    }

    async fn told(mut response: Response<Body>) -> (StatusCode, HeaderMap, Bytes) {
        let body = response.body_mut().collect(1 << 20).await.unwrap();
        (response.status(), std::mem::take(response.headers_mut()), body)
    }

    #[tokio::test]
    async fn every_form_of_an_error_is_given_again_as_it_was_made() {
        let mut seen = Vec::new();
        let of_types = TYPES.map(|(protocol, kind)| (protocol, Some(kind)));
        for (protocol, kind) in [(Protocol::Grpc, None), (Protocol::Rest, None)].into_iter().chain(of_types) {
            let kind = kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_bytes(kind).unwrap()));
            let headers = HeaderMap::from_iter(kind);
            if let Some(kind) = headers.get(CONTENT_TYPE).filter(|kind| *kind != "application/json") {
                let is_connects = kind == "application/proto" || Protocol::detect(&headers) == protocol;
                assert!(is_connects, "{kind:?}");
            }
            seen.push(Form::of(protocol, &headers).unwrap().index());
            let with = |text: &HeaderValue| format!("{}; charset=utf-8", text.to_str().unwrap());
            if let (Protocol::Connect, Some(text)) = (protocol, headers.get(CONTENT_TYPE).map(with)) {
                let text = HeaderValue::try_from(text).unwrap();
                let parameter = HeaderMap::from_iter([(CONTENT_TYPE, text)]);
                assert_eq!(Form::of(protocol, &parameter), Form::of(protocol, &headers));
                let of = |headers| protocol.error_response(&busy(), None, headers);
                assert_eq!(told(of(&parameter)).await, told(of(&headers)).await);
            }
            let made = || protocol.error_response(&busy(), None, &headers);
            let ready = ReadyMade::of(made()).unwrap();
            let expected = told(made()).await;
            for _ in 0..2 {
                assert_eq!(told(ready.response()).await, expected, "{protocol:?} {headers:?}");
            }
        }
        assert_eq!(seen, (0..Form::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn a_type_that_nobody_knows_has_no_form() {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc-web+x"))]);
        assert_eq!(Form::of(Protocol::GrpcWeb, &headers), None);
        assert_eq!(Form::of(Protocol::Connect, &HeaderMap::new()), None);
    }

    #[test]
    fn what_is_not_there_at_once_or_has_trailers_cannot_be_kept() {
        let waiting = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<Bytes>, Error>,
        >());
        assert!(ReadyMade::of(Response::new(Body::new(waiting))).is_none());
        assert!(ReadyMade::of(Response::new(Body::success(Bytes::from_static(b"x")))).is_none());
    }
}
