//! Hashes that are the same in every process and every version: a subset and a sticky choice depend on them.

/// Spreads the bits of `x` over all of the result. (The finaliser of SplitMix64: Steele, Lea and Flood, 2014.)
pub(crate) const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Two numbers as one.
pub(crate) const fn pair(a: u64, b: u64) -> u64 {
    mix(mix(a) ^ b.rotate_left(32))
}

/// The hash of a text, or of bytes, such as an [`Ask`](crate::Ask)'s key: FNV-1a over its bytes, then mixed.
///
/// ```
/// use bowline_balance::hash_of;
///
/// assert_eq!(hash_of("user-7"), hash_of("user-7"));
/// assert_ne!(hash_of("user-7"), hash_of("user-8"));
/// ```
pub fn hash_of(text: impl AsRef<[u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.as_ref() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(hash)
}

/// A hash as a number in (0, 1): never 0, of which there is no logarithm.
pub(crate) fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}
