use crate::picker::better_of_two;
use crate::{Ask, Candidate, Field, Picker};

/// Of two drawn by weight the one with fewer requests in flight for its weight. For requests that cost very different
/// amounts of time, where the last latency says little of the next.
///
/// It does not see that an instance fails fast; [`Ejection`](crate::Ejection) does.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastRequest;

impl Picker for LeastRequest {
    fn pick<C: Candidate>(&self, field: &Field<'_, C>, ask: &Ask<'_>) -> Option<usize> {
        better_of_two(field, ask, |place| {
            f64::from(field.candidate(place).load().pending()) / field.capacity(place)
        })
    }
}
