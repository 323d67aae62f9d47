//! Durations as text: `250ms`, `10s`, `1m30s`. For `#[serde(with = "bowline_config::duration")]`, and
//! `"bowline_config::duration::option"` for an `Option<Duration>` (which also wants `#[serde(default)]`).
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Deserialize, Serialize)]
//! struct Timeouts {
//!     #[serde(with = "bowline_config::duration")]
//!     read: Duration,
//!     #[serde(default, with = "bowline_config::duration::option")]
//!     write: Option<Duration>,
//! }
//! let timeouts: Timeouts = serde_json::from_str(r#"{ "read": "1m30s" }"#).unwrap();
//! assert_eq!((timeouts.read, timeouts.write), (Duration::from_secs(90), None));
//! assert_eq!(serde_json::to_string(&timeouts).unwrap(), r#"{"read":"1m30s","write":null}"#);
//! ```

use std::time::Duration;

use bowline_core::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Each unit in nanoseconds, largest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a duration: one or more whole numbers, each with a unit of `d`, `h`, `m`, `s`, `ms`, `us`, `ns`, larger units
/// first; or `0`.
///
/// # Errors
/// `INVALID_ARGUMENT` for anything else.
pub fn parse(text: &str) -> Result<Duration, Error> {
    let wrong = |why: &str| {
        Error::invalid_argument(format!("`{text}` is no duration: {why}; write it like 250ms, 10s or 1m30s"))
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut nanos, mut largest) = (text, 0_u128, 0);
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let number: u128 = number.parse().map_err(|_| wrong("a whole number is expected"))?;
        if unit.is_empty() {
            return Err(wrong("a unit is missing"));
        }
        let place = UNITS.iter().position(|(name, _)| *name == unit);
        let place = place.ok_or_else(|| wrong(&format!("there is no unit `{unit}`")))?;
        if place < largest {
            return Err(wrong("each unit comes once, larger ones first"));
        }
        largest = place + 1;
        let part = number.checked_mul(UNITS[place].1);
        nanos = part.and_then(|p| nanos.checked_add(p)).ok_or_else(|| wrong("it is too long"))?;
        rest = tail;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| wrong("it is too long"))?;
    // A remainder below 10⁹ fits.
    Ok(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// Writes a duration the way [`parse`] reads it, without loss.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(bowline_config::duration::format(Duration::from_millis(90_500)), "1m30s500ms");
/// ```
pub fn format(duration: Duration) -> String {
    let mut left = duration.as_nanos();
    if left == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, size) in UNITS {
        if left >= size {
            text.push_str(&format!("{}{unit}", left / size));
            left %= size;
        }
    }
    text
}

/// Writes the text.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Reads the text.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// The same for `Option<Duration>`.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the text, or null.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the text, or null.
    ///
    /// # Errors
    /// As [`parse`](super::parse).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| super::parse(&t).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_forms_are_read() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_mend() {
        for text in
            ["", "10", "s", "1.5s", "-1s", "1 s", "10 ms", "1x", "30s1m", "1s1s", "99999999999999999999d"]
        {
            let error = parse(text).unwrap_err();
            assert!(error.message().contains("250ms, 10s or 1m30s"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_duration_goes_there_and_back(seconds: u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }

        #[test]
        fn no_text_breaks_it(text in ".{0,20}") {
            let _ = parse(&text);
        }
    }
}
