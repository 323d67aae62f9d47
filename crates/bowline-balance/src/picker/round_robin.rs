use std::sync::atomic::Ordering;

use crate::hash::mix;
use crate::{Ask, Candidate, Field, Picker};

/// One after the other, by weight: an instance of half the highest weight is passed over every other round.
///
/// The order is computed from a counter, so that picks of many threads need one atomic addition and no lock: member
/// `i` takes its turn of round `r` if weight × r, counted in units of the highest weight, comes past a whole number
/// there. Each member has a phase of its own, so that those of low weight do not all take the same rounds. (The idea
/// is that of gRPC's static stride scheduler.) The counter goes on over updates.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRoundRobin;

impl Picker for WeightedRoundRobin {
    fn pick<C: Candidate>(&self, field: &Field<'_, C>, ask: &Ask<'_>) -> Option<usize> {
        let subset = field.pool.subset().len() as u64;
        let weight = |place: u64| u64::from(field.candidate(place as usize).instance().weight);
        let highest = field.pool.highest();
        if highest > 0 {
            // In two rounds somebody of the highest weight has had a turn, unless it is not to be used.
            for _ in 0..2 * subset {
                let turn = field.pool.turn().fetch_add(1, Ordering::Relaxed);
                let (round, place) = (turn / subset, turn % subset);
                let phase = mix(place) % highest;
                let progress =
                    (u128::from(weight(place)) * u128::from(round) + u128::from(phase)) % u128::from(highest);
                let is_due = progress >= u128::from(highest - weight(place));
                if let Some(drawn) = is_due.then(|| field.admits(place as usize, ask)).flatten() {
                    return Some(field.position(drawn.place));
                }
            }
        }
        field.draw(ask, None).map(|drawn| field.position(drawn.place))
    }
}
