use crate::{Ask, Candidate, Field, Picker};

/// One at random, by weight. Needs no state at all, and so says nothing of load.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRandom;

impl Picker for WeightedRandom {
    fn pick<C: Candidate>(&self, field: &Field<'_, C>, ask: &Ask<'_>) -> Option<usize> {
        field.draw(ask, None).map(|drawn| field.position(drawn.place))
    }
}
