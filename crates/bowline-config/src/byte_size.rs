//! Sizes as text: `4MiB`.

use std::fmt;
use std::str::FromStr;

use bowline_core::Error;
use serde::{Deserialize, Serialize};

/// A number of bytes, as text with a unit: `512B`, `64KiB`, `4MiB`, `1GiB`, `1TiB`, or the decimal `kB`, `MB`, `GB`, `TB`. A
/// plain whole number is one of bytes.
///
/// ```
/// use bowline_config::ByteSize;
///
/// let size: ByteSize = "4MiB".parse().unwrap();
/// assert_eq!(size.as_u64(), 4 * 1024 * 1024);
/// assert_eq!(size.to_string(), "4MiB");
/// assert!("4 apples".parse::<ByteSize>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// Binary units first: a size is printed in the first one that divides it.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// That many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many KiB (1024 bytes).
    pub const fn kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// That many MiB (1024 KiB).
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes, or the largest `usize` on machines where it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::invalid_argument(format!("`{text}` is no size: {why}; write it like 512B, 64KiB or 4MiB"))
        };
        let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        let number: u64 = number.parse().map_err(|_| wrong("a whole number is expected"))?;
        let unit = if unit.is_empty() { "B" } else { unit };
        // `K` for `k` is a common slip with one meaning only.
        let named = |name: &str| name == unit || (name == "kB" && unit == "KB");
        let unit = UNITS.iter().find(|(name, _)| named(name));
        let (_, size) = unit.ok_or_else(|| wrong("there is no such unit"))?;
        number.checked_mul(*size).map(Self).ok_or_else(|| wrong("it is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |size: u64| self.0 > 0 && self.0.is_multiple_of(size);
        let (unit, size) = UNITS.into_iter().find(|(_, size)| exact(*size)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 64KiB or 4MiB")
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_and_nonsense_is_refused_with_the_mend() {
        for (text, bytes) in
            [("0", 0), ("512B", 512), ("64KiB", 65_536), ("1kB", 1_000), ("1KB", 1_000), ("2GiB", 2 << 30)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap().as_u64(), bytes, "{text}");
        }
        for text in ["", "MiB", "-1B", "1.5MiB", "4 MiB", "4mib", "99999999999TiB"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.message().contains("64KiB or 4MiB"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_size_goes_there_and_back(bytes: u64, shift in 0..50_u32) {
            for size in [ByteSize(bytes), ByteSize(bytes >> 20 << (shift % 20)), ByteSize(1_u64 << shift)] {
                prop_assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
            }
        }
    }
}
