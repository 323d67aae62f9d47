//! What a request says of its context.

use std::time::Duration;

use bowline_core::{Context, Scheme, SystemRng};
use bowline_rpc::headers::{CONNECT_TIMEOUT, GRPC_TIMEOUT, REQUEST_ID, REST_TIMEOUT, TENANT};
use bowline_rpc::{Body, Protocol};
use http::Request;
use http::header::{HeaderMap, HeaderValue};
use http::uri::Scheme as UriScheme;

use crate::node::Node;

/// Writes what one attempt needs: the time that is left, and the scheme of the endpoint. May be done again for another one.
pub(crate) fn prepare(request: &mut Request<Body>, cx: &Context, node: &Node) {
    if let Some(remaining) = cx.remaining() {
        let protocol = Protocol::detect(request.headers());
        write_deadline(request.headers_mut(), protocol, remaining);
    }
    if node.link.endpoint.scheme() == Scheme::Https && request.uri().scheme() != Some(&UriScheme::HTTPS) {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(UriScheme::HTTPS);
        if let Ok(uri) = parts.try_into() {
            *request.uri_mut() = uri;
        }
    }
}

/// Connect's most: ten digits.
const MOST_MILLIS: u64 = 9_999_999_999;

/// Writes ids, trace, tenant and metadata: once for a call, however often it is sent.
pub(crate) fn write_context(headers: &mut HeaderMap, cx: &Context) {
    if let Some(id) = cx.request_id() {
        headers.insert(REQUEST_ID, id.to_header());
    }
    if let Some(trace) = cx.trace() {
        trace.child(&SystemRng).write_headers(headers);
    }
    if !cx.metadata().is_empty() {
        cx.metadata().write_global(headers);
    }
    for (name, value) in cx.outgoing().iter() {
        headers.insert(name.clone(), value.clone());
    }
    // The tenant is the context's, whatever the metadata says.
    match HeaderValue::try_from(cx.tenant().as_str()) {
        Ok(value) if !value.is_empty() => {
            headers.insert(TENANT, value);
        }
        _ => {
            headers.remove(TENANT);
        }
    }
}

/// Writes what remains of the deadline, in the protocol's form. Written at each attempt.
pub(crate) fn write_deadline(headers: &mut HeaderMap, protocol: Protocol, remaining: Duration) {
    // Rounded down: never more than there is.
    let millis =
        || HeaderValue::from(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).min(MOST_MILLIS));
    match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => {
            headers.insert(GRPC_TIMEOUT, encode_timeout(remaining, &mut [0; 20]));
        }
        Protocol::Connect => {
            headers.insert(CONNECT_TIMEOUT, millis());
        }
        Protocol::Rest => {
            headers.insert(REST_TIMEOUT, millis());
        }
    }
}

/// At most 8 digits and a unit, in the finest unit that fits, rounded down: never more than there is.
fn encode_timeout(remaining: Duration, buffer: &mut [u8; 20]) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let (value, unit) = match remaining {
        d if d.as_micros() <= MOST => (d.as_micros(), b'u'),
        d if d.as_millis() <= MOST => (d.as_millis(), b'm'),
        d => (u128::from(d.as_secs()).min(MOST), b'S'),
    };
    let mut at = buffer.len() - 1;
    buffer[at] = unit;
    let mut left = value as u64;
    loop {
        at -= 1;
        buffer[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    // Digits and a letter are a valid value; the fallback cannot be reached.
    HeaderValue::from_bytes(&buffer[at..]).unwrap_or(HeaderValue::from_static("0u"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_written_in_the_finest_unit_that_fits() {
        let encode = |d| encode_timeout(d, &mut [0; 20]);
        assert_eq!(encode(Duration::ZERO), "0u");
        assert_eq!(encode(Duration::from_micros(80_001)), "80001u");
        assert_eq!(encode(Duration::from_nanos(1_999)), "1u");
        assert_eq!(encode(Duration::from_secs(100)), "100000m");
        assert_eq!(encode(Duration::from_secs(200_000)), "200000S");
        assert_eq!(encode(Duration::MAX), "99999999S");
    }

    #[test]
    fn the_contexts_tenant_wins() {
        let (cx, _canceller) = Context::builder().build();
        let cx = cx.with_metadata("x-md-global-tenant", "other").unwrap();
        let mut headers = HeaderMap::new();
        write_context(&mut headers, &cx);
        assert!(!headers.contains_key("x-md-global-tenant"));
        write_context(&mut headers, &cx.with_tenant(bowline_core::Tenant::new("canary").unwrap()));
        assert_eq!(headers["x-md-global-tenant"], "canary");
    }
}
