//! How a request is spoken, and how each way of speaking tells an error.

use bowline_core::{Code, Error, RequestId};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};

use crate::Body;
use crate::headers::CONNECT_VERSION;
use crate::wire;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// Connect: a unary call, or a stream with Connect's envelopes.
    Connect,
    /// Plain HTTP and JSON.
    Rest,
}

impl Protocol {
    /// The name, for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc_web",
            Self::Connect => "connect",
            Self::Rest => "rest",
        }
    }

    /// What the headers say. A protobuf body without more is Connect's unary form where the path names a method; the router
    /// decides that.
    pub fn detect(headers: &HeaderMap) -> Self {
        let Some(content_type) = headers.get(CONTENT_TYPE) else { return Self::Rest };
        let content_type = content_type.as_bytes();
        if content_type.starts_with(b"application/grpc-web") {
            Self::GrpcWeb
        } else if content_type.starts_with(b"application/grpc") {
            Self::Grpc
        } else if content_type.starts_with(b"application/connect+") || headers.contains_key(CONNECT_VERSION) {
            Self::Connect
        } else {
            Self::Rest
        }
    }

    /// The response that tells `error` in this protocol's form.
    ///
    /// `headers` are the request's: they say which codec a gRPC client speaks.
    pub fn error_response(
        self,
        error: &Error,
        request_id: Option<&RequestId>,
        headers: &HeaderMap,
    ) -> Response<Body> {
        self.error_response_with(error, error.code().http_status(), request_id, headers)
    }

    /// As [`Protocol::error_response`], with an HTTP status that says more than the code's where the protocol leaves it to
    /// us, which is for REST.
    pub fn error_response_with(
        self,
        error: &Error,
        status: StatusCode,
        request_id: Option<&RequestId>,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let mut response = match self {
            Self::Rest => return rest_error(error, status, request_id),
            // When to come again is in a header of gRPC's own.
            Self::Grpc => return grpc_error(error, request_id),
            _ => {
                let wire = wire::to_connect(error, request_id);
                let mut response = wire.into_http_response(headers).map(Body::rpc);
                wire::write_pushback(response.headers_mut(), error);
                response
            }
        };
        retry_after(error, response.headers_mut());
        response
    }
}

/// gRPC's form of an error without messages: the status in the head, and nothing after it.
pub(crate) fn grpc_error(error: &Error, request_id: Option<&RequestId>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    wire::write_status(headers, error, request_id);
    response
}

/// The REST form of an error: `{"code", "reason", "message", "metadata"}`.
pub(crate) fn rest_error(
    error: &Error,
    status: StatusCode,
    request_id: Option<&RequestId>,
) -> Response<Body> {
    let mut response = Response::new(Body::full(wire::error_json(error, status, request_id)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    wire::write_pushback(response.headers_mut(), error);
    retry_after(error, response.headers_mut());
    response
}

fn retry_after(error: &Error, headers: &mut HeaderMap) {
    if let Some(delay) = error.retry_after() {
        // Whole seconds, rounded up: too early is the one thing it must not be.
        headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_millis().div_ceil(1000) as u64));
    }
}

/// A request that leads nowhere, in the form its protocol expects.
#[derive(Debug)]
pub struct Unresolved {
    pub(crate) protocol: Protocol,
    pub(crate) error: Error,
    pub(crate) status: Option<StatusCode>,
    pub(crate) allow: Option<HeaderValue>,
}

impl Unresolved {
    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The protocol the request seems to speak.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The response.
    pub fn response(&self, request_id: Option<&RequestId>, headers: &HeaderMap) -> Response<Body> {
        let mut response = match (self.protocol, self.status) {
            (Protocol::Rest, Some(status)) => rest_error(&self.error, status, request_id),
            (protocol, _) => protocol.error_response(&self.error, request_id, headers),
        };
        if let (Protocol::Connect, Code::Unimplemented) = (self.protocol, self.error.code()) {
            // What the Connect protocol prescribes for a procedure that does not exist.
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        if let Some(allow) = &self.allow {
            response.headers_mut().insert(ALLOW, allow.clone());
        }
        response
    }
}
