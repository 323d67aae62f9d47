//! Subsets by scores.

use crate::hash::{hash_of, pair};

/// How high an instance stands with a client.
pub(super) fn score(client: &str, instance: &str) -> u64 {
    pair(hash_of(client), hash_of(instance))
}
