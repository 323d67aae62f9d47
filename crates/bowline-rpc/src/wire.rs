//! Errors on the wire.
//!
//! Over gRPC and Connect an [`Error`] travels as a status with `google.rpc` details: `ErrorInfo` for reason, domain and
//! metadata; `RetryInfo` for the retry delay; `RequestInfo` for the request's id on internal errors. Over REST it is one
//! JSON object. Of an internal error only its code, its reason and the id of its request leave.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bowline_core::{Code, Error, RequestId};
use buffa::Message as _;
use buffa_types::google::protobuf::Any;
use bytes::Bytes;
use connectrpc::{ConnectError, ErrorCode, ErrorDetail};
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::headers::{GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, RETRY_PUSHBACK};
use crate::proto::google::rpc::{ErrorInfo, RequestInfo, RetryInfo, Status};

/// The most bytes a message has on the wire, and the most all metadata has. An error travels in headers, whose room is
/// limited: what is larger breaks the call, or the connection with all its calls.
const MESSAGE_BYTES: usize = 2048;
const METADATA_BYTES: usize = 2048;
const TYPE_URL: &str = "type.googleapis.com/";
/// What gRPC escapes in a message: all but printable ASCII, and the percent sign itself.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
const ERROR_INFO: &str = "google.rpc.ErrorInfo";
const RETRY_INFO: &str = "google.rpc.RetryInfo";
const REQUEST_INFO: &str = "google.rpc.RequestInfo";

/// The form for gRPC-Web and Connect, and for gRPC's streams.
pub(crate) fn to_connect(error: &Error, request_id: Option<&RequestId>) -> ConnectError {
    let mut wire = ConnectError::new(code_to_connect(error.code()), message(error));
    for detail in details(error, request_id) {
        let name = detail.type_url.strip_prefix(TYPE_URL).unwrap_or(&detail.type_url);
        wire = wire.with_detail(ErrorDetail {
            type_url: name.to_owned(),
            value: Some(STANDARD_NO_PAD.encode(&detail.value)),
            debug: None,
        });
    }
    let mut trailers = HeaderMap::new();
    write_pushback(&mut trailers, error);
    if trailers.is_empty() { wire } else { wire.with_trailers(trailers) }
}

/// Says when to send the request again, if the error says so.
pub(crate) fn write_pushback(headers: &mut HeaderMap, error: &Error) {
    let value = match error.retry_after() {
        _ if error.forbids_retry() => HeaderValue::from_static("-1"),
        Some(delay) => HeaderValue::from(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        None => return,
    };
    headers.insert(RETRY_PUSHBACK, value);
}

/// gRPC's status, in a response's head or its trailers.
pub(crate) fn write_status(headers: &mut HeaderMap, error: &Error, request_id: Option<&RequestId>) {
    write_pushback(headers, error);
    let message = message(error);
    headers.insert(GRPC_STATUS, number(error.code()));
    let encoded = utf8_percent_encode(message, ESCAPED).to_string();
    let status = Status {
        code: i32::try_from(error.code().number()).unwrap_or(2),
        message: message.to_owned(),
        details: details(error, request_id),
        ..Default::default()
    };
    let status = STANDARD_NO_PAD.encode(status.encode_to_vec());
    // Percent-encoded text and base64 are always valid values.
    for (name, value) in [(GRPC_MESSAGE, encoded), (GRPC_STATUS_DETAILS, status)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// A code's number, as text that is there already.
fn number(code: Code) -> HeaderValue {
    const NUMBERS: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    let text = NUMBERS.get(code.number() as usize).copied();
    text.map_or_else(|| HeaderValue::from(code.number()), HeaderValue::from_static)
}

/// As much of the public message as fits.
fn message(error: &Error) -> &str {
    let message = error.public_message();
    &message[..message.floor_char_boundary(MESSAGE_BYTES)]
}

/// The entries of the public metadata that fit, in their order.
fn metadata(error: &Error) -> impl Iterator<Item = (&str, &str)> {
    let mut left = METADATA_BYTES;
    error.public_metadata().filter(move |(key, value)| {
        let size = key.len() + value.len();
        let fits = size <= left;
        left -= if fits { size } else { 0 };
        fits
    })
}

fn details(error: &Error, request_id: Option<&RequestId>) -> Vec<Any> {
    let any = |name: &str, value: Vec<u8>| Any {
        type_url: format!("{TYPE_URL}{name}"),
        value: value.into(),
        ..Default::default()
    };
    let info = ErrorInfo {
        reason: error.reason().into(),
        domain: error.domain().into(),
        metadata: metadata(error).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        ..Default::default()
    };
    let mut details = vec![any(ERROR_INFO, info.encode_to_vec())];
    if let Some(delay) = error.retry_after() {
        let info = RetryInfo { retry_delay: duration(delay).into(), ..Default::default() };
        details.push(any(RETRY_INFO, info.encode_to_vec()));
    }
    if let (true, Some(id)) = (error.code().is_internal(), request_id) {
        let info = RequestInfo { request_id: id.to_string(), ..Default::default() };
        details.push(any(REQUEST_INFO, info.encode_to_vec()));
    }
    details
}

fn duration(delay: Duration) -> buffa_types::google::protobuf::Duration {
    buffa_types::google::protobuf::Duration {
        seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(delay.subsec_nanos()).unwrap_or(0),
        ..Default::default()
    }
}

/// What a server answered: its code, its message and the details it added, as protobuf `Any`s.
pub(crate) fn received(code: Code, message: String, details: impl IntoIterator<Item = Any>) -> Error {
    let message = if message.is_empty() { code.words().to_owned() } else { message };
    // Its root is in the other process, and nothing here tells a trace to it. Those who refuse do so most when nobody has the
    // time to make one.
    let mut error = Error::refusal(code, message).into_remote();
    for detail in details {
        match detail.type_url.rsplit('/').next() {
            Some(ERROR_INFO) => {
                let Ok(info) = ErrorInfo::decode_from_slice(&detail.value) else { continue };
                error = error.with_reason(info.reason).with_domain(info.domain);
                for (key, value) in info.metadata {
                    error = error.with_metadata(key, value);
                }
            }
            Some(RETRY_INFO) => {
                let Ok(info) = RetryInfo::decode_from_slice(&detail.value) else { continue };
                let delay = &info.retry_delay;
                if let (Ok(seconds), Ok(nanos)) = (u64::try_from(delay.seconds), u32::try_from(delay.nanos)) {
                    error = error.with_retry_after(Duration::new(seconds, nanos.min(999_999_999)));
                }
            }
            Some(REQUEST_INFO) => {
                let Ok(info) = RequestInfo::decode_from_slice(&detail.value) else { continue };
                error = error.with_metadata(Error::REQUEST_ID, info.request_id);
            }
            _ => {}
        }
    }
    error
}

/// What connectrpc's server found wrong with a request.
pub(crate) fn from_connect(wire: ConnectError) -> Error {
    let code = code_from_connect(wire.code);
    let message = wire.message.clone().unwrap_or_else(|| code.words().to_owned());
    Error::new(code, message).with_source(wire)
}

#[derive(Serialize)]
struct RestError<'a> {
    code: u16,
    reason: &'a str,
    message: &'a str,
    metadata: std::collections::BTreeMap<&'a str, String>,
}

/// The JSON form: `{"code": 404, "reason": "ITEM_NOT_FOUND", "message": "…", "metadata": {…}}`. The code is the HTTP
/// status that is sent, as in Kratos. An internal error has its request's id in the metadata.
pub(crate) fn error_json(error: &Error, status: StatusCode, request_id: Option<&RequestId>) -> Bytes {
    let mut metadata: std::collections::BTreeMap<&str, String> =
        error.public_metadata().map(|(k, v)| (k, v.to_owned())).collect();
    if let (true, Some(id)) = (error.code().is_internal(), request_id) {
        metadata.entry(Error::REQUEST_ID).or_insert_with(|| id.to_string());
    }
    let body = RestError {
        code: status.as_u16(),
        reason: error.reason(),
        message: error.public_message(),
        metadata,
    };
    // Strings and numbers always serialise; an empty body is the fallback that cannot be reached.
    serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default()
}

pub(crate) fn code_to_connect(code: Code) -> ErrorCode {
    ErrorCode::from_grpc_code(code.number()).unwrap_or(ErrorCode::Unknown)
}

pub(crate) fn code_from_connect(code: ErrorCode) -> Code {
    Code::from_number(code.grpc_code()).unwrap_or(Code::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client makes of what a server sends.
    fn there_and_back(wire: ConnectError) -> Error {
        let details = wire.details.iter().map(|detail| Any {
            type_url: detail.type_url.clone(),
            value: STANDARD_NO_PAD.decode(detail.value.as_deref().unwrap()).unwrap().into(),
            ..Default::default()
        });
        received(code_from_connect(wire.code), wire.message.clone().unwrap_or_default(), details)
    }

    #[test]
    fn an_error_goes_there_and_back() {
        let error = Error::not_found("item 7 does not exist")
            .with_reason("ITEM_NOT_FOUND")
            .with_domain("shop.v1")
            .with_metadata("id", "7")
            .with_retry_after(Duration::from_millis(1500));
        let back = there_and_back(to_connect(&error, None));
        assert_eq!(back.code(), Code::NotFound);
        assert!(back.matches("shop.v1", "ITEM_NOT_FOUND"));
        assert_eq!(back.message(), "item 7 does not exist");
        assert_eq!(back.metadata(), error.metadata());
        assert_eq!(back.retry_after(), Some(Duration::from_millis(1500)));
        assert!(back.is_remote());
    }

    #[test]
    fn a_large_error_fits_into_headers() {
        let error = Error::not_found("ä".repeat(20_000))
            .with_metadata("a", "x".repeat(1500))
            .with_metadata("b", "x".repeat(1500))
            .with_metadata("c", "y");
        let mut headers = HeaderMap::new();
        write_status(&mut headers, &error, None);
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(size < 14 * 1024, "{size}");
        let back = there_and_back(to_connect(&error, None));
        assert_eq!(back.message().chars().count(), 1024);
        assert_eq!(back.metadata().keys().collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn every_code_is_written_as_its_number() {
        for code in Code::ALL {
            assert_eq!(number(code), code.number().to_string());
        }
    }

    #[test]
    fn an_internal_error_leaves_as_its_code_and_the_requests_id() {
        let id = RequestId::generate(&bowline_core::SeededRng::new(1));
        for code in [Code::Internal, Code::Unknown, Code::DataLoss] {
            let error = Error::new(code, "select * from secrets").with_metadata("table", "secrets");
            for error in [error, there_and_back(ConnectError::new(code_to_connect(code), "secrets"))] {
                let back = there_and_back(to_connect(&error, Some(&id)));
                assert_eq!((back.message(), back.reason()), (code.words(), code.as_str()));
                assert_eq!(
                    back.metadata().clone().into_iter().collect::<Vec<_>>(),
                    [("request_id".into(), id.to_string())]
                );
                let mut headers = HeaderMap::new();
                write_status(&mut headers, &error, Some(&id));
                let status = STANDARD_NO_PAD.decode(&headers[GRPC_STATUS_DETAILS]).unwrap();
                assert!(!String::from_utf8_lossy(&status).contains("secrets"));
                assert_eq!(headers[GRPC_MESSAGE], code.words());
                let json = error_json(&error, code.http_status(), Some(&id));
                let json = String::from_utf8(json.to_vec()).unwrap();
                assert!(json.contains(&id.to_string()) && !json.contains("secrets"), "{json}");
            }
        }
    }
}
