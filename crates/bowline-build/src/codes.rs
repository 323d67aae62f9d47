//! The codes of `google.rpc.Code`.

/// Number, name in the `.proto` file, name of the runtime's `Code` variant.
const CODES: &[(i32, &str, &str)] = &[
    (1, "CANCELLED", "Canceled"),
    (2, "UNKNOWN", "Unknown"),
    (3, "INVALID_ARGUMENT", "InvalidArgument"),
    (4, "DEADLINE_EXCEEDED", "DeadlineExceeded"),
    (5, "NOT_FOUND", "NotFound"),
    (6, "ALREADY_EXISTS", "AlreadyExists"),
    (7, "PERMISSION_DENIED", "PermissionDenied"),
    (8, "RESOURCE_EXHAUSTED", "ResourceExhausted"),
    (9, "FAILED_PRECONDITION", "FailedPrecondition"),
    (10, "ABORTED", "Aborted"),
    (11, "OUT_OF_RANGE", "OutOfRange"),
    (12, "UNIMPLEMENTED", "Unimplemented"),
    (13, "INTERNAL", "Internal"),
    (14, "UNAVAILABLE", "Unavailable"),
    (15, "DATA_LOSS", "DataLoss"),
    (16, "UNAUTHENTICATED", "Unauthenticated"),
];

/// The runtime's variant for an error code; `None` for OK and for numbers that are no code.
pub(crate) fn rust_name(code: i32) -> Option<&'static str> {
    CODES.iter().find(|(number, ..)| *number == code).map(|(_, _, rust)| *rust)
}
