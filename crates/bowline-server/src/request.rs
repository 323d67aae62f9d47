//! What a request's headers say about the call: deadline, ids, trace, tenant, metadata.

use std::time::Duration;

use bowline_core::{Canceller, Code};
use bowline_core::{
    Context, Error, Instant, Metadata, Operation, RequestId, Result, SystemRng, Tenant, TraceContext,
};
use bowline_rpc::Protocol;
use bowline_rpc::headers::{CONNECT_TIMEOUT, GRPC_TIMEOUT, REQUEST_ID, REST_TIMEOUT, TENANT};
use http::{HeaderMap, HeaderName};

/// Makes a call's context, at the root of a new tree. `bound` is the most time it gets.
pub(crate) fn context(
    headers: &mut HeaderMap,
    protocol: Protocol,
    operation: &Operation,
    bound: Option<Duration>,
) -> (Context, Canceller, Result<()>) {
    let rng = SystemRng;
    let mut verdict = Ok(());
    let asked = match timeout(headers, protocol) {
        Ok(asked) => asked,
        Err(error) => {
            verdict = Err(error);
            None
        }
    };
    let time = match (asked, bound) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let metadata = Metadata::from_headers(headers);
    let tenant = metadata.get(TENANT.as_str()).map_or(Ok(Tenant::base()), |name| {
        Tenant::new(name).ok_or_else(|| {
            Error::new(Code::InvalidArgument, format!("{TENANT} `{name}` is no tenant's name"))
                .with_reason("INVALID_TENANT")
        })
    });
    let tenant = tenant.unwrap_or_else(|error| {
        verdict = Err(error);
        Tenant::base()
    });
    let request_id =
        headers.get(REQUEST_ID).and_then(RequestId::from_header).unwrap_or_else(|| RequestId::generate(&rng));
    let trace = TraceContext::of_request(headers, &rng);
    let (cx, canceller) = Context::builder()
        .deadline(time.and_then(|time| Instant::now().checked_add(time)))
        .tenant(tenant)
        .request_id(request_id)
        .trace(trace)
        .operation(operation.clone())
        .metadata(metadata)
        .build();
    (cx, canceller, verdict)
}

/// Takes the time the caller gives: `grpc-timeout`, `connect-timeout-ms`, or for REST `x-envoy-expected-rq-timeout-ms`. REST
/// takes Connect's as well, since plain JSON at an RPC path may be either; the shorter counts. It is taken off the request,
/// so that the protocol's own code does not count it a second time.
fn timeout(headers: &mut HeaderMap, protocol: Protocol) -> Result<Option<Duration>> {
    match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => {
            take(headers, &GRPC_TIMEOUT, grpc_timeout, "up to 8 digits and one of H M S m u n")
        }
        Protocol::Connect => take(headers, &CONNECT_TIMEOUT, millis, "up to 10 digits"),
        Protocol::Rest => {
            let rest = take(headers, &REST_TIMEOUT, millis, "up to 10 digits")?;
            let connect = take(headers, &CONNECT_TIMEOUT, millis, "up to 10 digits")?;
            Ok(rest.into_iter().chain(connect).min())
        }
    }
}

fn take(
    headers: &mut HeaderMap,
    name: &HeaderName,
    parse: fn(&str) -> Option<Duration>,
    form: &str,
) -> Result<Option<Duration>> {
    let Some(value) = headers.remove(name) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    parse(text).map(Some).ok_or_else(|| {
        Error::invalid_argument(format!("{name} `{text}` is malformed: it takes {form}"))
            .with_reason("INVALID_TIMEOUT")
    })
}

fn millis(text: &str) -> Option<Duration> {
    digits(text, 10).map(Duration::from_millis)
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (unit_at, unit) = text.char_indices().next_back()?;
    let value = digits(&text[..unit_at], 8)?;
    Some(match unit {
        'H' => Duration::from_secs(value * 3600),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

fn digits(text: &str, most: usize) -> Option<u64> {
    let valid = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| text.parse().ok())?
}

/// Removes what only our own side may say: tenant and metadata.
pub(crate) fn strip_metadata(headers: &mut HeaderMap) {
    let foreign: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-md-")).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_each_protocols_form() {
        assert_eq!(grpc_timeout("80m"), Some(Duration::from_millis(80)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(millis("80"), Some(Duration::from_millis(80)));
        for bad in ["", "m", "80", "80x", "-1m", "123456789m", "1.5S", "٣m"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
        for bad in ["", "1s", "12345678901", "-1"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn rest_takes_connects_timeout_as_well_and_the_shorter_counts() {
        let asked = |protocol, values: &[(HeaderName, &'static str)]| {
            let headers = values.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
            timeout(&mut headers.collect(), protocol).unwrap().map(|time| time.as_millis())
        };
        let (rest, connect) = ((REST_TIMEOUT, "80"), (CONNECT_TIMEOUT, "70"));
        assert_eq!(asked(Protocol::Rest, &[]), None);
        assert_eq!(asked(Protocol::Rest, std::slice::from_ref(&rest)), Some(80));
        assert_eq!(asked(Protocol::Rest, std::slice::from_ref(&connect)), Some(70));
        assert_eq!(asked(Protocol::Rest, &[rest.clone(), connect]), Some(70));
        assert_eq!(asked(Protocol::Connect, &[rest]), None);
    }
}
