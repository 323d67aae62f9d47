//! Why a request was refused before it did anything.
//!
//! Each has a reason of its own, so that a caller can tell them apart, and a metric and an alert can name them.

use std::time::Duration;

use bowline_core::{Code, Error};

/// There were more requests than the rate allows.
pub const RATELIMITED: &str = "RATELIMITED";
/// The server has too much to do, or the bulkhead of the operation is full.
pub const OVERLOADED: &str = "OVERLOADED";
/// The client sends nothing to an operation that fails.
pub const CIRCUIT_OPEN: &str = "CIRCUIT_OPEN";
/// The client sent too much again lately.
pub const BUDGET_EXHAUSTED: &str = "BUDGET_EXHAUSTED";
/// The time was over before it could be begun.
pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
/// There is no instance of the service.
pub const NO_INSTANCE: &str = "NO_INSTANCE";
/// A tenant's request may go to its own instances only, and there is none.
pub const TENANT_UNROUTABLE: &str = "TENANT_UNROUTABLE";

/// Too many requests of `whose`.
pub fn rate_limited(whose: &'static str, retry_after: Duration) -> Error {
    Error::refusal(Code::ResourceExhausted, whose).with_reason(RATELIMITED).with_retry_after(retry_after)
}

/// Too much to do.
pub fn overloaded(message: &'static str, retry_after: Duration) -> Error {
    Error::refusal(Code::ResourceExhausted, message).with_reason(OVERLOADED).with_retry_after(retry_after)
}

/// Nothing is sent, for it would fail.
pub fn circuit_open(retry_after: Duration) -> Error {
    let message = "the operation fails too often at the moment, so this call was not sent";
    Error::refusal(Code::Unavailable, message).with_reason(CIRCUIT_OPEN).with_retry_after(retry_after)
}

/// It failed, and was not sent again because of the budget.
pub fn budget_exhausted(last: Error) -> Error {
    Error::new(last.code(), "the call failed, and too many were sent again lately to send this one again")
        .with_reason(BUDGET_EXHAUSTED)
        .with_source(last)
}
