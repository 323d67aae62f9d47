//! Errors on the wire.
//!
//! Over gRPC and Connect an [`Error`] travels as a status with `google.rpc` details: `ErrorInfo` for reason, domain and
//! metadata; `RetryInfo` for the retry delay; `RequestInfo` for the request's id on internal errors. Over REST it is one
//! JSON object. The code and the *public* message are all that leaves for an internal error.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bowline_core::{Code, Error, RequestId};
use buffa::Message as _;
use bytes::Bytes;
use connectrpc::{ConnectError, ErrorCode, ErrorDetail};
use serde::Serialize;

use crate::proto::google::rpc::{ErrorInfo, RequestInfo, RetryInfo};

const ERROR_INFO: &str = "google.rpc.ErrorInfo";
const RETRY_INFO: &str = "google.rpc.RetryInfo";
const REQUEST_INFO: &str = "google.rpc.RequestInfo";

/// The form for gRPC and Connect.
pub(crate) fn to_connect(error: &Error, request_id: Option<&RequestId>) -> ConnectError {
    let mut wire = ConnectError::new(code_to_connect(error.code()), error.public_message());
    let info = ErrorInfo {
        reason: error.reason().into(),
        domain: error.domain().into(),
        metadata: error.metadata().iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        ..Default::default()
    };
    wire = wire.with_detail(ErrorDetail::from_message(ERROR_INFO, &info));
    if let Some(delay) = error.retry_after() {
        let info = RetryInfo { retry_delay: duration(delay).into(), ..Default::default() };
        wire = wire.with_detail(ErrorDetail::from_message(RETRY_INFO, &info));
    }
    if let (true, Some(id)) = (error.code().is_internal(), request_id) {
        let info = RequestInfo { request_id: id.to_string(), ..Default::default() };
        wire = wire.with_detail(ErrorDetail::from_message(REQUEST_INFO, &info));
    }
    wire
}

fn duration(delay: Duration) -> buffa_types::google::protobuf::Duration {
    buffa_types::google::protobuf::Duration {
        seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(delay.subsec_nanos()).unwrap_or(0),
        ..Default::default()
    }
}

/// What a server answered, or what went wrong on the way; then the pipeline's own error is in the chain.
pub(crate) fn from_connect(wire: ConnectError) -> Error {
    if let Some(local) = wire.source_arc().and_then(|source| take_local(&*source)) {
        return local;
    }
    let code = code_from_connect(wire.code);
    let message = wire.message.clone().unwrap_or_else(|| code.words().to_owned());
    let mut error = Error::new(code, message).into_remote();
    for detail in &wire.details {
        let Some(bytes) = detail_bytes(detail) else { continue };
        match detail.type_url.rsplit('/').next() {
            Some(ERROR_INFO) => {
                let Ok(info) = ErrorInfo::decode_from_slice(&bytes) else { continue };
                error = error.with_reason(info.reason).with_domain(info.domain);
                for (key, value) in info.metadata {
                    error = error.with_metadata(key, value);
                }
            }
            Some(RETRY_INFO) => {
                let Ok(info) = RetryInfo::decode_from_slice(&bytes) else { continue };
                let delay = &info.retry_delay;
                if let (Ok(seconds), Ok(nanos)) = (u64::try_from(delay.seconds), u32::try_from(delay.nanos)) {
                    error = error.with_retry_after(Duration::new(seconds, nanos.min(999_999_999)));
                }
            }
            Some(REQUEST_INFO) => {
                let Ok(info) = RequestInfo::decode_from_slice(&bytes) else { continue };
                error = error.with_metadata("request_id", info.request_id);
            }
            _ => {}
        }
    }
    error
}

fn detail_bytes(detail: &ErrorDetail) -> Option<Vec<u8>> {
    let text = detail.value.as_deref()?;
    STANDARD_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

/// Carries our own error through connectrpc's client, which wraps what a transport returns.
#[derive(Debug)]
pub(crate) struct Local(std::sync::Mutex<Option<Error>>);

impl Local {
    pub(crate) fn new(error: Error) -> Self {
        Self(std::sync::Mutex::new(Some(error)))
    }
}

impl std::fmt::Display for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the call failed before a response")
    }
}

impl std::error::Error for Local {}

fn take_local(source: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<Error> {
    let local = source.downcast_ref::<Local>()?;
    local.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

#[derive(Serialize)]
struct RestError<'a> {
    code: u16,
    reason: &'a str,
    message: &'a str,
    metadata: std::collections::BTreeMap<&'a str, String>,
}

/// The JSON form: `{"code": 404, "reason": "ITEM_NOT_FOUND", "message": "…", "metadata": {…}}`. The code is the HTTP
/// status, as in Kratos. An internal error has its request's id in the metadata.
pub(crate) fn error_json(error: &Error, request_id: Option<&RequestId>) -> Bytes {
    let mut metadata: std::collections::BTreeMap<&str, String> =
        error.metadata().iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    if let (true, Some(id)) = (error.code().is_internal(), request_id) {
        metadata.entry("request_id").or_insert_with(|| id.to_string());
    }
    let body = RestError {
        code: error.code().http_status_u16(),
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

    #[test]
    fn an_error_goes_there_and_back() {
        let error = Error::not_found("item 7 does not exist")
            .with_reason("ITEM_NOT_FOUND")
            .with_domain("shop.v1")
            .with_metadata("id", "7")
            .with_retry_after(Duration::from_millis(1500));
        let back = from_connect(to_connect(&error, None));
        assert_eq!(back.code(), Code::NotFound);
        assert!(back.matches("shop.v1", "ITEM_NOT_FOUND"));
        assert_eq!(back.message(), "item 7 does not exist");
        assert_eq!(back.metadata(), error.metadata());
        assert_eq!(back.retry_after(), Some(Duration::from_millis(1500)));
        assert!(back.is_remote());
    }

    #[test]
    fn an_internal_error_leaves_as_its_code_and_the_requests_id() {
        let id = RequestId::generate(&bowline_core::SeededRng::new(1));
        let error = Error::internal("select * from secrets");
        let back = from_connect(to_connect(&error, Some(&id)));
        assert_eq!((back.message(), back.reason()), ("internal error", "INTERNAL"));
        assert_eq!(back.metadata()["request_id"], id.to_string());
        let json = String::from_utf8(error_json(&error, Some(&id)).to_vec()).unwrap();
        assert!(json.contains(&id.to_string()) && !json.contains("secrets"), "{json}");
    }
}
