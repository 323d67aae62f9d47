//! The pools that one tenant's requests may go to.

use std::collections::BTreeMap;

use bowline_core::Instant;

use crate::pool::Standing;
use crate::{Ask, Candidate, Field, IndexOptions, Picker, Pool};

/// All pools of a tenant: one for each zone and cluster, with its share of the traffic.
#[derive(Debug, Default)]
pub(crate) struct Route {
    pools: Box<[Place]>,
}

#[derive(Debug)]
struct Place {
    zone: Box<str>,
    cluster: Box<str>,
    /// Its share, in parts of [`WHOLE`].
    share: u64,
    pool: Pool,
}

const WHOLE: f64 = 4_294_967_296.0;

/// With how many instances too few a cluster still gets its full share: with 5 of 7 the others can carry what is
/// missing. Envoy's overprovisioning factor, 1.4.
const OVERPROVISIONING: f64 = 1.4;

impl Route {
    /// The route over `members`, positions among `candidates`; all in one pool unless they are `divided`.
    pub(crate) fn build<C: Candidate>(
        candidates: &[C],
        members: Vec<u32>,
        options: &IndexOptions,
        divided: bool,
        previous: Option<&Self>,
        now: Instant,
    ) -> Self {
        let usable = |member: &u32| can_be_used(&candidates[*member as usize], options, now);
        let mut places: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
        for member in &members {
            let instance = candidates[*member as usize].instance();
            let place = if divided { (&*instance.zone, &*instance.cluster) } else { ("", "") };
            places.entry(place).or_default().push(*member);
        }
        let capacities: Vec<_> = places
            .iter()
            .map(|((zone, cluster), members)| {
                let all: f64 = members.iter().map(|m| weight(&candidates[*m as usize])).sum();
                let can: f64 = members.iter().map(usable).sum();
                let wanted = options.clusters.get(*cluster).copied().filter(|w| w.is_finite() && *w >= 0.0);
                let available = if all > 0.0 { (OVERPROVISIONING * can / all).min(1.0) } else { 0.0 };
                (*zone, wanted.map_or(can, |wanted| wanted * available))
            })
            .collect();
        let shares = shares(&capacities, members.len(), options);
        let pools = places.into_iter().zip(shares).map(|(((zone, cluster), mut members), share)| {
            let subset = options.subset.arrange(&mut members, |m| candidates[m as usize].instance());
            let before = previous.and_then(|route| route.pools.iter().find(|p| p.is(zone, cluster)));
            let turn = before.map_or(options.seed, |place| place.pool.turns());
            let pool = Pool::new(candidates, members, subset, options.slow_start, turn);
            Place { zone: zone.into(), cluster: cluster.into(), share: (share * WHOLE) as u64, pool }
        });
        Self { pools: pools.collect() }
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().map(|place| &place.pool)
    }

    /// How well its best pool stands. The first that stands well ends the search.
    pub(crate) fn standing<C: Candidate>(&self, candidates: &[C], ask: &Ask<'_>) -> Standing {
        let mut best = Standing::Dead;
        for pool in self.pools() {
            best = best.min(Field { candidates, pool }.standing(ask));
            if best == Standing::Well {
                break;
            }
        }
        best
    }

    /// A pool by its share, but one that stands worse than another only where there is no better one; then who the
    /// picker says.
    pub(crate) fn pick<C: Candidate>(
        &self,
        picker: &impl Picker,
        candidates: &[C],
        ask: &Ask<'_>,
    ) -> Option<usize> {
        let field = |place: &'_ Place| Field { candidates, pool: &place.pool }.standing(ask);
        let place = match &*self.pools {
            [only] => only,
            pools => {
                let first = draw(pools, ask, |_| true)?;
                if field(first) == Standing::Well {
                    first
                } else {
                    let best = self.standing(candidates, ask);
                    draw(pools, ask, |place| field(place) == best).unwrap_or(first)
                }
            }
        };
        picker.pick(&Field { candidates, pool: &place.pool }, ask)
    }
}

impl Place {
    fn is(&self, zone: &str, cluster: &str) -> bool {
        &*self.zone == zone && &*self.cluster == cluster
    }
}

/// One of those that fit, by share; where none of them has any, each as likely.
fn draw<'a>(pools: &'a [Place], ask: &Ask<'_>, fits: impl Fn(&Place) -> bool) -> Option<&'a Place> {
    let total: u64 = pools.iter().filter(|place| fits(place)).map(|place| place.share).sum();
    let own = |place: &Place| if total > 0 { place.share } else { 1 };
    let all = || pools.iter().filter(|place| fits(place));
    let mut left = ask.below(all().map(own).sum());
    for place in all() {
        if left < own(place) {
            return Some(place);
        }
        left -= own(place);
    }
    // Somebody's state changed between the looks, or nobody fits.
    all().last()
}

/// Each place's share: zones as their policy says, clusters of a zone by their capacity.
fn shares(capacities: &[(&str, f64)], instances: usize, options: &IndexOptions) -> Vec<f64> {
    let all: f64 = capacities.iter().map(|(_, capacity)| capacity).sum();
    if all <= 0.0 {
        return vec![0.0; capacities.len()];
    }
    if instances < options.zones.at_least {
        return capacities.iter().map(|(_, capacity)| capacity / all).collect();
    }
    let mut zones: Vec<(&str, f64)> = Vec::new();
    for (zone, capacity) in capacities {
        match zones.last_mut().filter(|(last, _)| last == zone) {
            Some((_, sum)) => *sum += capacity,
            None => zones.push((*zone, *capacity)),
        }
    }
    let by_zone = options.zones.shares(&zones);
    let share = |(zone, capacity): &(&str, f64)| {
        let of = zones.iter().position(|(name, _)| name == zone);
        of.filter(|of| zones[*of].1 > 0.0).map_or(0.0, |of| by_zone[of] * capacity / zones[of].1)
    };
    capacities.iter().map(share).collect()
}

fn weight<C: Candidate>(candidate: &C) -> f64 {
    f64::from(candidate.instance().weight)
}

/// What an instance can take now. One that warms up counts for what it takes; one on probation has to be drawn to
/// find out.
fn can_be_used<C: Candidate>(candidate: &C, options: &IndexOptions, now: Instant) -> f64 {
    let health = candidate.load().health();
    if candidate.is_live() && (!health.is_ejected() || health.is_on_probation()) {
        weight(candidate) * candidate.load().warmth(&options.slow_start, now)
    } else {
        0.0
    }
}
