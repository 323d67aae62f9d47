//! A hash that is the same on every node and in every build.

/// FNV-1a over parts, each with its length, and a finaliser (that of SplitMix64), because the hashes are summed.
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl From<u64> for Fnv {
    /// Goes on from a hash.
    fn from(hash: u64) -> Self {
        Self(hash)
    }
}

impl Fnv {
    pub(super) fn write(&mut self, part: &[u8]) {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn finish(&self) -> u64 {
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The hash of some parts.
pub(super) fn of(parts: &[&[u8]]) -> u64 {
    let mut hash = Fnv::default();
    parts.iter().for_each(|part| hash.write(part));
    hash.finish()
}

/// A number for a name: the same everywhere, and another one for another name as far as chance goes.
pub fn number(name: &str) -> u64 {
    of(&[name.as_bytes()])
}
