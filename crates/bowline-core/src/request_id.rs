//! The name of one request.

use std::fmt;

use http::HeaderValue;

use crate::Rng;

/// Names one request across every hop and in every log line; shown to the caller with each internal error.
///
/// Formatted only when somebody looks, because most requests end without that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Repr);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Repr {
    Generated(u64, u64),
    Given(HeaderValue),
}

impl RequestId {
    /// The longest id taken from a caller, in bytes.
    pub const MAX_LEN: usize = 128;

    /// A new random id of 128 bits.
    pub fn generate(rng: &impl Rng) -> Self {
        Self(Repr::Generated(rng.next_u64(), rng.next_u64()))
    }

    /// The id a caller sent, if it is 1 to 128 printable ASCII characters without spaces.
    pub fn from_header(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let valid = (1..=Self::MAX_LEN).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        valid.then(|| Self(Repr::Given(value.clone())))
    }

    /// As a header's value.
    pub fn to_header(&self) -> HeaderValue {
        match &self.0 {
            Repr::Given(value) => value.clone(),
            Repr::Generated(high, low) => {
                let mut hex = [0; 32];
                crate::trace::write_hex(&mut hex[..16], *high);
                crate::trace::write_hex(&mut hex[16..], *low);
                // Hex digits are always a valid header value; the fallback cannot be reached.
                HeaderValue::from_bytes(&hex).unwrap_or(HeaderValue::from_static("0"))
            }
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Generated(high, low) => write!(f, "{high:016x}{low:016x}"),
            Repr::Given(value) => f.write_str(value.to_str().unwrap_or("")),
        }
    }
}
