//! How much of the traffic stays in the caller's own zone.

/// How zones share the traffic, in Envoy's way: as much as possible stays in the caller's zone, as long as every
/// instance still gets about the same.
///
/// ```
/// use bowline_balance::{ZonePolicy, Zones};
///
/// // Half of the callers are here and a quarter of the instances: half of the traffic can stay.
/// let callers = [("a".into(), 50.0), ("b".into(), 50.0)].into();
/// let zones = Zones { local: "a".into(), callers, ..Zones::default() };
/// let shares = zones.shares(&[("a", 10.0), ("b", 30.0)]);
/// assert!((shares[0] - 0.5).abs() < 1e-9 && (shares[1] - 0.5).abs() < 1e-9);
/// assert_eq!(ZonePolicy::default(), ZonePolicy::LocalFirst);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Zones {
    /// The caller's own zone; empty if it has none, and then zones are not looked at.
    pub local: String,
    /// How many callers there are in each zone, or how much each zone's callers ask for. Empty if it is not known;
    /// then all zones that have instances are taken to have as many callers.
    pub callers: std::collections::BTreeMap<String, f64>,
    /// Whether to prefer the own zone at all.
    pub policy: ZonePolicy,
    /// With fewer instances than this zones are not looked at: 6, Envoy's `min_cluster_size`.
    pub at_least: usize,
}

/// What to do with zones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZonePolicy {
    /// The own zone first, and of the others as much as it is short of.
    #[default]
    LocalFirst,
    /// All instances alike, wherever they are.
    Everywhere,
}

impl Default for Zones {
    fn default() -> Self {
        Self { local: String::new(), callers: Default::default(), policy: ZonePolicy::default(), at_least: 6 }
    }
}

impl Zones {
    /// The share of the traffic of each zone, given its name and its capacity (the weight of its usable instances).
    /// In the order of `capacities`; they add up to 1, unless there is no capacity at all.
    ///
    /// Is `u` a zone's share of the capacity and `c` its share of the callers: with `c ≤ u` in the own zone
    /// everything stays there. Otherwise `u ÷ c` stays, and the rest goes to those zones that have more capacity
    /// than callers, in proportion to what they have more.
    pub fn shares(&self, capacities: &[(&str, f64)]) -> Vec<f64> {
        let all: f64 = capacities.iter().map(|(_, capacity)| capacity).sum();
        if all <= 0.0 {
            return vec![0.0; capacities.len()];
        }
        let by_capacity: Vec<f64> = capacities.iter().map(|(_, capacity)| capacity / all).collect();
        let local = capacities.iter().position(|(zone, capacity)| *zone == self.local && *capacity > 0.0);
        let local = local.filter(|_| self.policy == ZonePolicy::LocalFirst && !self.local.is_empty());
        let (Some(local), Some(callers)) = (local, self.callers(capacities)) else { return by_capacity };
        if callers[local] <= by_capacity[local] {
            let mut shares = vec![0.0; capacities.len()];
            shares[local] = 1.0;
            return shares;
        }
        let stays = by_capacity[local] / callers[local];
        let residual: Vec<f64> = by_capacity.iter().zip(&callers).map(|(u, c)| (u - c).max(0.0)).collect();
        let total: f64 = residual.iter().sum();
        if total <= 0.0 {
            return by_capacity;
        }
        let mut shares: Vec<f64> = residual.iter().map(|more| (1.0 - stays) * more / total).collect();
        shares[local] = stays;
        shares
    }

    /// Each zone's share of the callers. `None` if what is known of them makes no sense here.
    fn callers(&self, capacities: &[(&str, f64)]) -> Option<Vec<f64>> {
        if self.callers.is_empty() {
            return Some(vec![1.0 / capacities.len() as f64; capacities.len()]);
        }
        let all: f64 = self.callers.values().filter(|count| count.is_finite()).sum();
        let share = |(zone, _): &(&str, f64)| self.callers.get(*zone).map_or(0.0, |count| count / all);
        let shares: Vec<f64> = capacities.iter().map(share).collect();
        let sane = shares.iter().all(|share| (0.0..=1.0).contains(share));
        // Whoever asks is there: a table without its own zone is an old one.
        let here = capacities.iter().position(|(zone, _)| *zone == self.local);
        (sane && here.is_some_and(|here| shares[here] > 0.0)).then_some(shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(local: &str, callers: &[(&str, f64)]) -> Zones {
        let callers = callers.iter().map(|(zone, count)| ((*zone).to_owned(), *count)).collect();
        Zones { local: local.into(), callers, ..Zones::default() }
    }

    #[test]
    fn everything_stays_at_home_where_there_is_room() {
        let zones = zones("a", &[("a", 1.0), ("b", 3.0)]);
        assert_eq!(zones.shares(&[("a", 50.0), ("b", 50.0)]), [1.0, 0.0]);
    }

    #[test]
    fn every_instance_gets_the_same_whoever_calls_from_where() {
        let callers = [("a", 60.0), ("b", 30.0), ("c", 10.0)];
        let capacities = [("a", 20.0), ("b", 40.0), ("c", 40.0)];
        let mut load = [0.0; 3];
        for (zone, count) in callers {
            for (place, share) in zones(zone, &callers).shares(&capacities).iter().enumerate() {
                load[place] += count * share;
            }
        }
        for (place, (_, capacity)) in capacities.iter().enumerate() {
            assert!((load[place] - capacity).abs() < 1e-9, "{load:?}");
        }
    }

    #[test]
    fn what_is_known_wrongly_of_callers_is_not_believed() {
        for callers in [&[("b", 5.0)][..], &[("a", f64::NAN)], &[("a", -1.0), ("b", 2.0)], &[("a", 0.0)]] {
            assert_eq!(zones("a", callers).shares(&[("a", 10.0), ("b", 30.0)]), [0.25, 0.75], "{callers:?}");
        }
        assert_eq!(zones("z", &[]).shares(&[("a", 10.0), ("b", 30.0)]), [0.25, 0.75], "no instance is here");
        assert_eq!(zones("a", &[]).shares(&[("a", 0.0), ("b", 30.0)]), [0.0, 1.0], "none that could be used");
        assert_eq!(zones("a", &[]).shares(&[("a", 0.0)]), [0.0]);
    }
}
