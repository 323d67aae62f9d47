//! The status codes of `google.rpc.Code`.

use std::fmt;

use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $wire:literal, $http:literal, $lower:literal;)*) => {
        /// What kind of failure this is: the codes of `google.rpc.Code`, without `OK`.
        ///
        /// The numbers are the ones gRPC sends; [`Code::http_status`] is the mapping that `google.rpc.Code` documents.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Code { $($(#[$doc])* $name = $number,)* }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: [Self; 16] = [$(Self::$name,)*];

            /// The name as `google.rpc.Code` writes it, such as `NOT_FOUND`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            /// The name in words, such as `not found`.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $lower,)* }
            }

            /// The HTTP status this code is rendered as.
            pub const fn http_status_u16(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }

            /// The code of a gRPC status number. `None` for 0, which is success, and for numbers above 16.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The code of a name such as `NOT_FOUND`.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$name),)* "CANCELED" => Some(Self::Canceled), _ => None }
            }
        }
    };
}

codes! {
    /// The caller gave up.
    Canceled = 1, "CANCELLED", 499, "canceled";
    /// Nobody knows: an error from outside that carried no code.
    Unknown = 2, "UNKNOWN", 500, "unknown error";
    /// The request is wrong whatever the state of the system.
    InvalidArgument = 3, "INVALID_ARGUMENT", 400, "invalid argument";
    /// The deadline passed before there was an answer.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED", 504, "deadline exceeded";
    /// What was asked for does not exist.
    NotFound = 5, "NOT_FOUND", 404, "not found";
    /// What was to be created exists.
    AlreadyExists = 6, "ALREADY_EXISTS", 409, "already exists";
    /// The caller is known and may not do this.
    PermissionDenied = 7, "PERMISSION_DENIED", 403, "permission denied";
    /// A quota or limit is used up.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED", 429, "resource exhausted";
    /// The system is not in the state the request needs; retrying does not help.
    FailedPrecondition = 9, "FAILED_PRECONDITION", 400, "failed precondition";
    /// Lost a race; retry at a higher level.
    Aborted = 10, "ABORTED", 409, "aborted";
    /// Past the valid range.
    OutOfRange = 11, "OUT_OF_RANGE", 400, "out of range";
    /// There is no such operation here.
    Unimplemented = 12, "UNIMPLEMENTED", 501, "unimplemented";
    /// A bug, or an invariant that broke.
    Internal = 13, "INTERNAL", 500, "internal error";
    /// Not now; retry with backoff.
    Unavailable = 14, "UNAVAILABLE", 503, "unavailable";
    /// Unrecoverable loss or corruption of data.
    DataLoss = 15, "DATA_LOSS", 500, "data loss";
    /// The caller is not known.
    Unauthenticated = 16, "UNAUTHENTICATED", 401, "unauthenticated";
}

impl Code {
    /// The number gRPC sends.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The HTTP status this code is rendered as: `google.rpc.Code`'s documented mapping.
    pub fn http_status(self) -> StatusCode {
        // Every literal in the table is a valid status; the fallback cannot be reached.
        StatusCode::from_u16(self.http_status_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The closest code for an HTTP status that came without one: [`Code::http_status`] the other way round, and for the
    /// statuses that it never gives, whose fault they are. `None` for what is no failure.
    pub fn from_http(status: StatusCode) -> Option<Self> {
        Some(match status.as_u16() {
            100..=399 => return None,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 | 410 => Self::NotFound,
            405 | 501 => Self::Unimplemented,
            408 | 504 => Self::DeadlineExceeded,
            409 => Self::Aborted,
            413 | 429 | 431 => Self::ResourceExhausted,
            412 => Self::FailedPrecondition,
            499 => Self::Canceled,
            400..=498 => Self::InvalidArgument,
            502 | 503 => Self::Unavailable,
            500 => Self::Internal,
            _ => Self::Unknown,
        })
    }

    /// Codes whose message may hold details of the inside and is therefore not shown outside.
    pub const fn is_internal(self) -> bool {
        matches!(self, Self::Internal | Self::Unknown | Self::DataLoss)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_go_there_and_back() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
            assert_eq!(Code::from_name(code.as_str()), Some(code));
        }
        assert_eq!(Code::from_number(0), None);
        assert_eq!(Code::from_number(17), None);
    }
}
