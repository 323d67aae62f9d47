//! The headers that bowline reads and writes, by name; and the one status that several places read.

use std::time::Duration;

use bowline_core::{Code, Error};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName};

/// gRPC's status, a number.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC's message for people, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// gRPC's `google.rpc.Status`, in base64.
pub const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// When to send a request again that failed, in milliseconds; a negative number is never (gRFC A6).
pub const RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// How often the request was sent before (gRFC A6).
pub const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
/// A name for the request by which a server tells its repetitions (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How a gRPC request's messages are compressed.
pub const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How the answer's messages may be compressed.
pub const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// The time a gRPC caller gives: up to 8 digits and a unit.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The time a Connect caller gives, in milliseconds.
pub const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
/// Says that a request speaks Connect.
pub const CONNECT_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
/// The time a REST caller gives, in milliseconds: Envoy's name.
pub const REST_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// Says on an answer that it is less than what was asked for: something stands in for it (`last-good`, `fallback`), or for what the
/// server asked others for (`dependency`).
pub const DEGRADED: HeaderName = HeaderName::from_static("x-bowline-degraded");
/// The request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Who calls: a service's name, for one hop.
pub const CALLER: HeaderName = HeaderName::from_static("x-md-local-caller");
/// How much the request matters: [`bowline_core::Criticality`].
pub const CRITICALITY: HeaderName = HeaderName::from_static(bowline_core::Criticality::KEY);
/// The tenant's name.
pub const TENANT: HeaderName = HeaderName::from_static("x-md-global-tenant");

/// Whether a server says in headers or trailers not to send the request again: by a negative number, or by one that is none
/// (gRFC A6).
pub fn forbids_retry(headers: &HeaderMap) -> bool {
    pushback(headers) == Some(None)
}

/// What a server says of sending the request again: nothing, never, or after so long.
pub(crate) fn pushback(headers: &HeaderMap) -> Option<Option<Duration>> {
    let millis = headers.get(RETRY_PUSHBACK)?.to_str().ok().and_then(|text| text.parse().ok());
    Some(millis.map(Duration::from_millis))
}

/// When a server says to send the request again, whatever protocol it speaks.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = || headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs);
    pushback(headers).flatten().or_else(seconds)
}

/// The failure that gRPC's headers or trailers tell, with all its details. `None` for success, and where there is no status.
pub fn grpc_failure(headers: &HeaderMap) -> Option<Error> {
    crate::answer::status(headers)?.err()
}

/// The gRPC status in headers or trailers. The outer option is `None` where there is none; the inner one for success.
pub fn grpc_status(headers: &HeaderMap) -> Option<Option<Code>> {
    match headers.get(GRPC_STATUS)?.as_bytes() {
        b"0" => Some(None),
        // A number that nobody knows is a failure all the same.
        text => {
            let number = std::str::from_utf8(text).ok()?.parse().ok()?;
            Some(Some(Code::from_number(number).unwrap_or(Code::Unknown)))
        }
    }
}
