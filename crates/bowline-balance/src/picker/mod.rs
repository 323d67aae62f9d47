//! Who of a pool gets a request.

mod consistent_hash;
mod least_request;
mod p2c;
mod round_robin;
mod weighted_random;

pub use consistent_hash::ConsistentHash;
pub use least_request::LeastRequest;
pub use p2c::P2c;
pub use round_robin::WeightedRoundRobin;
pub use weighted_random::WeightedRandom;

use crate::pool::Drawn;
use crate::{Ask, Candidate, Field};

/// Chooses among the members of a pool, by their weights. A pick takes no lock and allocates nothing.
pub trait Picker: Send + Sync + 'static {
    /// The position of the one to use among the candidates. What cannot be reached, is ejected, was tried or has the
    /// weight 0 is chosen only where nobody else is left, in the opposite order. `None` if the pool is empty.
    fn pick<C: Candidate>(&self, field: &Field<'_, C>, ask: &Ask<'_>) -> Option<usize>;
}

/// Draws two by weight and takes the one whose cost is lower; the first if they cost the same, so that weights hold
/// exactly between equals.
///
/// Two random choices avoid the herd that one best choice attracts, and the imbalance that one random choice leaves
/// (Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*, 2001).
fn better_of_two<C: Candidate>(
    field: &Field<'_, C>,
    ask: &Ask<'_>,
    cost: impl Fn(usize) -> f64,
) -> Option<usize> {
    let Drawn { place: first, probe } = field.draw(ask, None)?;
    if probe || field.pool.members().len() == 1 {
        return Some(field.position(first));
    }
    let second = field.draw(ask, Some(first)).map_or(first, |drawn| drawn.place);
    // What is drawn second may be of a worse kind, where nobody else is left of the first one's.
    let comparable = field.is_as_good(second, first, ask);
    let place = if comparable && cost(second) < cost(first) { second } else { first };
    Some(field.position(place))
}
