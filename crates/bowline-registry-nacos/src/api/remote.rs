//! How a connection is set up, watched and ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::payload::{bodies, or_default};

/// Codes of outcomes.
pub mod code {
    /// It is done.
    pub const SUCCESS: i32 = 200;
    /// The server does not take requests yet, or not any more.
    pub const INVALID_SERVER_STATUS: i32 = 300;
    /// The connection is not set up: clients connect anew.
    pub const UN_REGISTER: i32 = 301;
    /// Nobody here understands a request of that name.
    pub const NO_HANDLER: i32 = 302;
    /// A parameter is missing or malformed.
    pub const INVALID_PARAM: i32 = 400;
    /// The token is not good any more, or not for this: clients log in again.
    pub const NO_RIGHT: i32 = 403;
    /// It is not there.
    pub const NOT_FOUND: i32 = 404;
    /// It did not work.
    pub const FAIL: i32 = 500;
    /// The server does not do that.
    pub const NOT_IMPLEMENTED: i32 = 501;
    /// A limit is reached.
    pub const OVER_THRESHOLD: i32 = 503;
}

/// How a request went: a part of every answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outcome {
    /// [`code::SUCCESS`], or what went wrong.
    #[serde(deserialize_with = "or_default")]
    pub result_code: i32,
    /// What went wrong; 0 if nothing did.
    #[serde(deserialize_with = "or_default")]
    pub error_code: i32,
    /// What went wrong, in words.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it answers.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Whether it went well; the code says the same.
    #[serde(deserialize_with = "or_default")]
    pub success: bool,
}

impl Default for Outcome {
    fn default() -> Self {
        let (message, request_id) = (String::new(), String::new());
        Self { result_code: code::SUCCESS, error_code: 0, message, request_id, success: true }
    }
}

impl Outcome {
    /// It went well, and answers this request.
    pub fn success(request_id: impl Into<String>) -> Self {
        Self { request_id: request_id.into(), ..Self::default() }
    }

    /// It did not.
    pub fn failure(code: i32, message: impl Into<String>, request_id: impl Into<String>) -> Self {
        let (message, request_id) = (message.into(), request_id.into());
        Self { result_code: code, error_code: code, message, request_id, success: false }
    }

    /// Whether it went well.
    pub fn is_success(&self) -> bool {
        self.result_code == code::SUCCESS
    }
}

/// Requests that say nothing but what they are.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                /// By which its answer names it.
                #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
                pub request_id: String,
            }
        )*
        bodies!($($name),*);
    };
}

/// Answers that say nothing but how it went.
macro_rules! responses {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name {
                /// How it went.
                #[serde(flatten)]
                pub outcome: Outcome,
            }
        )*
        bodies!($($name),*);
    };
}

requests! {
    /// Whether somebody is there: the first request on a connection, before it is set up.
    ServerCheckRequest,
    /// Whether the server still knows the connection: what a client asks that has heard nothing for 5 s.
    HealthCheckRequest,
    /// Whether the client is still there: what a server asks that has heard nothing for 20 s.
    ClientDetectionRequest,
}

responses! {
    /// Yes.
    HealthCheckResponse,
    /// Yes.
    ClientDetectionResponse,
    /// It goes.
    ConnectResetResponse,
    /// It has read what the server can do.
    SetupAckResponse,
    /// What was asked cannot be answered in its own form.
    ErrorResponse,
}

/// The answer to [`ServerCheckRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerCheckResponse {
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The connection's name.
    #[serde(deserialize_with = "or_default")]
    pub connection_id: String,
    /// Whether a [`SetupAckRequest`] comes after the setup; clients wait for it then.
    #[serde(deserialize_with = "or_default")]
    pub support_ability_negotiation: bool,
}

/// The first message on the stream: who the client is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionSetupRequest {
    /// By which it is named; mostly empty.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Name and version of the client.
    #[serde(deserialize_with = "or_default")]
    pub client_version: String,
    /// Its namespace.
    #[serde(deserialize_with = "or_default")]
    pub tenant: String,
    /// Facts such as `module` and `source`.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// What it can do. Who sends a table, be it empty, is told the server's.
    pub ability_table: Option<BTreeMap<String, bool>>,
}

/// What the server can do. It is not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetupAckRequest {
    /// By which it is named.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Abilities by name.
    #[serde(deserialize_with = "or_default")]
    pub ability_table: BTreeMap<String, bool>,
}

/// The client is to connect anew, to another server if that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectResetRequest {
    /// By which its answer names it.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The other server's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_ip: Option<String>,
    /// Its port for HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_port: Option<String>,
}

bodies!(ServerCheckResponse, ConnectionSetupRequest, SetupAckRequest, ConnectResetRequest);
