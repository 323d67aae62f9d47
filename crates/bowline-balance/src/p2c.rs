//! Power of two choices.

use bowline_core::{Instant, Rng};

use crate::{Candidate, Picker};

/// Looks at two candidates and takes the one with the lower cost for its weight.
///
/// Two random choices avoid the herd that one best choice attracts, and the imbalance that one random choice leaves
/// (Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*, 2001). The candidates are drawn by weight, so that
/// weights hold under no load as well.
#[derive(Clone, Copy, Debug, Default)]
pub struct P2c;

impl Picker for P2c {
    fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        tried: &[usize],
        now: Instant,
        rng: &impl Rng,
    ) -> Option<usize> {
        // The common case allocates nothing and looks at nothing twice.
        if tried.is_empty() && candidates.len() <= SMALL {
            let mut usable = [0_usize; SMALL];
            let mut count = 0;
            for (index, candidate) in candidates.iter().enumerate() {
                if candidate.is_live() && candidate.weight() > 0 {
                    usable[count] = index;
                    count += 1;
                }
            }
            if let Some(picked) = choose(candidates, &usable[..count], now, rng) {
                return Some(picked);
            }
        }
        let fresh = |index: &usize| !tried.contains(index);
        let live = |index: &usize| candidates[*index].is_live();
        let wanted = |index: &usize| live(index) && candidates[*index].weight() > 0;
        let all = || 0..candidates.len();
        let among = |tier: Vec<usize>| choose(candidates, &tier, now, rng);
        // A live one again before a dead one: what was tried and is still live has refused, and another connection may not.
        None.or_else(|| among(all().filter(|i| fresh(i) && wanted(i)).collect()))
            .or_else(|| among(all().filter(wanted).collect()))
            .or_else(|| among(all().filter(|i| fresh(i) && live(i)).collect()))
            .or_else(|| among(all().filter(live).collect()))
            .or_else(|| among(all().filter(fresh).collect()))
            .or_else(|| among(all().collect()))
    }
}

/// As many candidates as are looked at without allocating.
const SMALL: usize = 32;

fn choose<C: Candidate>(candidates: &[C], usable: &[usize], now: Instant, rng: &impl Rng) -> Option<usize> {
    match *usable {
        [] => None,
        [only] => Some(only),
        _ => {
            let total: u64 = usable.iter().map(|i| weight(&candidates[*i])).sum();
            let first = draw(candidates, usable, total, None, rng);
            let rest = total - weight(&candidates[first]);
            let second = draw(candidates, usable, rest, Some(first), rng);
            let cost = |i: usize| candidates[i].load().cost(now) / weight(&candidates[i]) as f64;
            Some(if cost(second) < cost(first) { second } else { first })
        }
    }
}

fn weight<C: Candidate>(candidate: &C) -> u64 {
    // In the last tiers even a weight of 0 is better than no instance at all.
    u64::from(candidate.weight().max(1))
}

/// One of `usable` but `without`, by weight.
fn draw<C: Candidate>(
    candidates: &[C],
    usable: &[usize],
    total: u64,
    without: Option<usize>,
    rng: &impl Rng,
) -> usize {
    let mut left = ((u128::from(rng.next_u64()) * u128::from(total)) >> 64) as u64;
    let mut last = usable[0];
    for index in usable.iter().copied().filter(|i| Some(*i) != without) {
        let own = weight(&candidates[index]);
        if left < own {
            return index;
        }
        left -= own;
        last = index;
    }
    last
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bowline_core::{Clock, ManualClock, SeededRng};

    use super::*;
    use crate::Load;

    struct Fake {
        load: Arc<Load>,
        weight: u32,
        live: bool,
    }

    impl Fake {
        fn new(weight: u32, live: bool) -> Self {
            Self { load: Arc::default(), weight, live }
        }
    }

    impl Candidate for Fake {
        fn load(&self) -> &Load {
            &self.load
        }
        fn weight(&self) -> u32 {
            self.weight
        }
        fn is_live(&self) -> bool {
            self.live
        }
    }

    fn counts(candidates: &[Fake], tried: &[usize], seed: u64) -> Vec<usize> {
        let (rng, clock) = (SeededRng::new(seed), ManualClock::new());
        let mut counts = vec![0; candidates.len()];
        for _ in 0..9_000 {
            counts[P2c.pick(candidates, tried, clock.now(), &rng).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn a_dead_one_is_never_picked_while_a_live_one_exists() {
        let candidates = [Fake::new(100, false), Fake::new(100, true), Fake::new(0, true)];
        assert_eq!(counts(&candidates, &[], 1), [0, 9_000, 0]);
        assert_eq!(counts(&candidates, &[1], 1), [0, 9_000, 0], "though it was tried");
        let candidates = [Fake::new(100, false), Fake::new(0, true)];
        assert_eq!(counts(&candidates, &[], 1), [0, 9_000], "though it is not wanted");
        let candidates = [Fake::new(100, true), Fake::new(100, true)];
        assert_eq!(counts(&candidates, &[1], 1), [9_000, 0], "what was tried comes after what was not");
        assert!(P2c.pick(&[] as &[Fake], &[], ManualClock::new().now(), &SeededRng::new(1)).is_none());
    }

    #[test]
    fn weights_hold_without_load() {
        let candidates =
            [Fake::new(100, true), Fake::new(300, true), Fake::new(100, true), Fake::new(100, true)];
        let counts = counts(&candidates, &[], 3);
        assert!(counts[1] > 2 * counts[0].max(counts[2]).max(counts[3]), "{counts:?}");
    }

    #[test]
    fn a_slow_one_gets_less() {
        let clock = ManualClock::new();
        let candidates = [Fake::new(100, true), Fake::new(100, true), Fake::new(100, true)];
        candidates[0].load.begin().answered(Duration::from_millis(400), clock.now());
        for fast in &candidates[1..] {
            fast.load.begin().answered(Duration::from_millis(4), clock.now());
        }
        assert_eq!(counts(&candidates, &[], 5)[0], 0);
    }
}
