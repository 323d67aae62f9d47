//! The `.proto` files that come with this crate, so that an import of them needs no copy.
//!
//! A file of the same name in the user's include roots wins.

/// The text of the bundled file of this import name.
pub(crate) fn source(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(file, _)| *file == name).map(|(_, source)| *source)
}

const FILES: &[(&str, &str)] = &[
    ("bowline/api/errors.proto", include_str!("../protos/bowline/api/errors.proto")),
    ("google/api/annotations.proto", include_str!("../protos/google/api/annotations.proto")),
    ("google/api/http.proto", include_str!("../protos/google/api/http.proto")),
    ("google/api/httpbody.proto", include_str!("../protos/google/api/httpbody.proto")),
    ("google/rpc/code.proto", include_str!("../protos/google/rpc/code.proto")),
    ("google/rpc/error_details.proto", include_str!("../protos/google/rpc/error_details.proto")),
    ("google/rpc/status.proto", include_str!("../protos/google/rpc/status.proto")),
];
