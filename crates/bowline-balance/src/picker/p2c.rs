use crate::picker::better_of_two;
use crate::{Ask, Candidate, Field, Picker};

/// Power of two choices by peak EWMA: of two drawn by weight the one that is expected to answer sooner. The default.
///
/// What is expected is [`Load::cost_at`](crate::Load::cost_at): a latency that jumps up at once and fades over 10 s,
/// times the requests in flight against the instance's weight. (Finagle's; its fast errors do not attract traffic
/// here.)
#[derive(Clone, Copy, Debug, Default)]
pub struct P2c;

impl Picker for P2c {
    fn pick<C: Candidate>(&self, field: &Field<'_, C>, ask: &Ask<'_>) -> Option<usize> {
        better_of_two(field, ask, |place| {
            field.candidate(place).load().cost_at(field.capacity(place), ask.now)
        })
    }
}
