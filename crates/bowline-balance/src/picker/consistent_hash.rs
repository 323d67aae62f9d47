use crate::hash::{hash_of, pair, unit};
use crate::{Ask, Candidate, Field, Picker};

/// The same key goes to the same instance, unless that one has more than its share of the load.
///
/// Each instance has a score for each key, drawn so that the highest falls on it as often as its weight says
/// (rendezvous hashing: Thaler and Ravishankar, 1998; with weights: Schindelhauer and Schomaker, 2005). When an
/// instance goes, its keys are spread over all others, and nobody else's move. One that has (1 + ε) times its share
/// of the requests in flight is passed over (*Consistent Hashing with Bounded Loads*, Mirrokni, Thorup and
/// Zadimoghaddam, 2016): a key that everybody asks for does not bring an instance down.
///
/// A pick looks at every member twice. Keys go to the same instance for all clients only if all have the same
/// subset: use it with [`Subsetting::Everyone`](crate::Subsetting::Everyone), or for caches that need not be shared.
/// A request without a key goes anywhere.
#[derive(Clone, Copy, Debug)]
pub struct ConsistentHash {
    /// How much more than its share an instance takes: 0.25, as HAProxy and Vimeo use it. What is not above 0 is
    /// taken as that.
    pub epsilon: f64,
}

impl Default for ConsistentHash {
    fn default() -> Self {
        Self { epsilon: 0.25 }
    }
}

impl Picker for ConsistentHash {
    fn pick<C: Candidate>(&self, field: &Field<'_, C>, ask: &Ask<'_>) -> Option<usize> {
        let Some(key) = ask.key else {
            return field.draw(ask, None).map(|drawn| field.position(drawn.place));
        };
        let epsilon = if self.epsilon > 0.0 { self.epsilon } else { Self::default().epsilon };
        let pending = |place: usize| f64::from(field.candidate(place).load().pending());
        let subset = field.pool.subset().len();
        let all: f64 = (0..subset).map(pending).sum();
        let share = |place: usize| (all + 1.0) * field.capacity(place) / subset.max(1) as f64;
        let bound = |place: usize| ((1.0 + epsilon) * share(place)).ceil();
        let score = |place: usize, weight: f64| {
            let draw = unit(pair(key, hash_of(field.candidate(place).instance().id.as_str())));
            // The draw is below 1, so that its logarithm is negative and this is above 0.
            let score = weight / -draw.ln();
            // One that is full comes after all that are not, whatever it scores.
            if pending(place) < bound(place) { score } else { -1.0 / score }
        };
        field.best(ask, score).map(|drawn| field.position(drawn.place))
    }
}
