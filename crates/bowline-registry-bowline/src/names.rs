//! The form of the registry's names, shared by node and client.

/// The namespace and the environment that an empty one stands for.
const DEFAULT: &str = "default";

/// The longest service name and instance id: the longest name in the DNS (RFC 1035).
pub const MAX_NAME: usize = 253;
/// The longest namespace and environment: a DNS label, because they appear in DNS names.
pub const MAX_LABEL: usize = 63;

/// The form of a namespace's or an environment's name that the registry keeps: an empty one is `default`.
///
/// ```
/// assert_eq!(bowline_registry_bowline::names::canonical(""), "default");
/// assert_eq!(bowline_registry_bowline::names::canonical("prod"), "prod");
/// ```
pub fn canonical(name: &str) -> &str {
    if name.is_empty() { DEFAULT } else { name }
}

/// Whether this is a namespace or an environment: up to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`; empty for the default.
pub fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Whether this is a service's name: 1 to 253 of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`, not starting with `.`.
pub fn is_service(text: &str) -> bool {
    is_id(text) && !text.bytes().any(|b| matches!(b, b':' | b'@'))
}

/// Whether a service's name may begin like this.
pub fn is_prefix(text: &str) -> bool {
    text.is_empty() || is_service(text)
}

/// Whether this is an instance's id: as a service's name, and `:` and `@` too, because ids may be addresses.
pub fn is_id(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@');
    (1..=MAX_NAME).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(valid)
}
