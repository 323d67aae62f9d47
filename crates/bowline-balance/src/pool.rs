//! Among whom a picker chooses.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Ask, Candidate, SlowStart};

/// Instances that may take the same requests: those of one tenant in one cluster and zone. Made anew with each update;
/// then it only is read.
///
/// It holds positions among an index's candidates. The first ones are the subset that takes the traffic; the others
/// take it when less than half of the subset can.
#[derive(Debug, Default)]
pub struct Pool {
    members: Box<[u32]>,
    /// Sums of the weights up to and with each member, for draws by weight.
    sums: Box<[u64]>,
    subset: usize,
    /// The highest weight in the subset.
    highest: u64,
    slow_start: SlowStart,
    /// Whose turn it is, for round robin. Goes on where the pool before it was.
    turn: AtomicU64,
}

/// From how little of its weight on a pool is in panic: 50 %, as in Envoy. What is left would be overrun.
const PANIC: f64 = 0.5;

/// How often chance is tried before the members are looked at one by one.
const DRAWS: usize = 8;

impl Pool {
    /// The members of which the first `subset` take the traffic.
    pub(crate) fn new<C: Candidate>(
        candidates: &[C],
        members: Vec<u32>,
        subset: usize,
        slow_start: SlowStart,
        turn: u64,
    ) -> Self {
        let weight =
            |member: &u32| candidates.get(*member as usize).map_or(0, |c| u64::from(c.instance().weight));
        let sums = members.iter().scan(0, |sum, member| {
            *sum += weight(member);
            Some(*sum)
        });
        let sums = sums.collect();
        let subset = subset.min(members.len());
        let highest = members[..subset].iter().map(weight).max().unwrap_or(0);
        Self { members: members.into(), sums, subset, highest, slow_start, turn: AtomicU64::new(turn) }
    }

    /// Positions of those who take the traffic as long as at least half of them can. Connect to these.
    pub fn subset(&self) -> &[u32] {
        &self.members[..self.subset]
    }

    /// Positions of all members, those of the subset first.
    pub fn members(&self) -> &[u32] {
        &self.members
    }

    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    pub(crate) fn turn(&self) -> &AtomicU64 {
        &self.turn
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    fn total(&self, members: usize) -> u64 {
        members.checked_sub(1).map_or(0, |last| self.sums[last])
    }
}

/// Which members come into question. Each level admits more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// The subset's that can be reached and are not ejected.
    Subset,
    /// All such.
    All,
    /// Ejected ones as well: with more than half of the weight gone, the rest would not stand it.
    Ejected,
    /// Those too that were tried: they refused, and another connection may not.
    Tried,
    /// Those too of weight 0.
    Unwanted,
    /// And those that could not be reached.
    Dead,
}

/// How well the best member of a pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Somebody can take the request.
    Well,
    /// Those who could are ejected.
    Ejected,
    /// Those who could were tried.
    Tried,
    /// Those who can be reached take no traffic.
    Unwanted,
    /// None can be reached.
    Dead,
}

const LEVELS: [Level; 5] = [Level::All, Level::Ejected, Level::Tried, Level::Unwanted, Level::Dead];

/// A pool with its candidates: what a [`Picker`](crate::Picker) works on.
#[derive(Debug)]
pub struct Field<'a, C> {
    pub(crate) candidates: &'a [C],
    pub(crate) pool: &'a Pool,
}

/// A member of a field, by its place in the pool, and whether it was drawn to find out if it is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) place: usize,
    pub(crate) probe: bool,
}

impl<'a, C: Candidate> Field<'a, C> {
    /// All candidates of the index.
    pub fn candidates(&self) -> &'a [C] {
        self.candidates
    }

    /// The positions of those that are to be chosen among.
    pub fn pool(&self) -> &'a Pool {
        self.pool
    }

    pub(crate) fn candidate(&self, place: usize) -> &'a C {
        &self.candidates[self.position(place)]
    }

    /// The position among all candidates.
    pub(crate) fn position(&self, place: usize) -> usize {
        self.pool.members[place] as usize
    }

    /// The weight of one against the average of the subset.
    pub(crate) fn capacity(&self, place: usize) -> f64 {
        let total = self.pool.total(self.pool.subset).max(1) as f64;
        let own = f64::from(self.candidate(place).instance().weight.max(1));
        own * self.pool.subset as f64 / total
    }

    /// A member by weight that can take the request, but not `except`. `None` if there is none but it.
    ///
    /// Chance is tried first, which looks at one member alone. Only when it falls on one that cannot is the whole pool
    /// looked at: then it is known whether this is the panic in which everybody counts.
    pub(crate) fn draw(&self, ask: &Ask<'_>, except: Option<usize>) -> Option<Drawn> {
        let total = self.pool.total(self.pool.subset);
        for _ in 0..DRAWS {
            if total == 0 {
                break;
            }
            let drawn = ask.below(total);
            let place = self.pool.sums[..self.pool.subset].partition_point(|sum| *sum <= drawn);
            if Some(place) == except {
                continue;
            }
            if except.is_none() && self.takes_probe(place, ask) {
                return Some(Drawn { place, probe: true });
            }
            if !self.fits(place, Level::Subset, ask) {
                break;
            }
            if self.is_warm(place, ask) {
                return Some(Drawn { place, probe: false });
            }
        }
        self.search(ask, except)
    }

    /// Whether the member at `place` of the subset may get the request now: for those who choose by turns.
    pub(crate) fn admits(&self, place: usize, ask: &Ask<'_>) -> Option<Drawn> {
        if self.takes_probe(place, ask) {
            return Some(Drawn { place, probe: true });
        }
        let fits = self.fits(place, Level::Subset, ask) && self.is_warm(place, ask);
        fits.then_some(Drawn { place, probe: false })
    }

    /// How well it stands. The first member that stands well ends the search.
    pub(crate) fn standing(&self, ask: &Ask<'_>) -> Standing {
        let mut best = Standing::Dead;
        for place in 0..self.pool.members.len() {
            let own = if self.fits(place, Level::All, ask) || self.has_probe(place, ask) {
                return Standing::Well;
            } else if self.fits(place, Level::Ejected, ask) {
                Standing::Ejected
            } else if self.fits(place, Level::Tried, ask) {
                Standing::Tried
            } else if self.fits(place, Level::Unwanted, ask) {
                Standing::Unwanted
            } else {
                Standing::Dead
            };
            best = best.min(own);
        }
        best
    }

    /// One by weight among those of the first level that has any.
    fn search(&self, ask: &Ask<'_>, except: Option<usize>) -> Option<Drawn> {
        let (level, members) = self.level(ask, except)?;
        if level > Level::All && except.is_none() {
            // Nobody is well: whoever may be tried again comes before those who may not.
            let mut places = 0..self.pool.members.len();
            if let Some(place) = places.find(|place| self.takes_probe(*place, ask)) {
                return Some(Drawn { place, probe: true });
            }
        }
        let fit = |place: &usize| Some(*place) != except && self.fits(*place, level, ask);
        let warm = |place: usize| (self.weight(place) as f64 * self.warmth(place, ask)).ceil() as u64;
        let total: u64 = (0..members).filter(fit).map(warm).sum();
        let mut left = ask.below(total);
        let mut last = None;
        for place in (0..members).filter(fit) {
            let own = warm(place);
            if left < own {
                return Some(Drawn { place, probe: false });
            }
            left -= own;
            last = Some(Drawn { place, probe: false });
        }
        // Somebody's state changed between the two looks.
        last
    }

    /// The first level at which there is somebody, and how many members it is about.
    fn level(&self, ask: &Ask<'_>, except: Option<usize>) -> Option<(Level, usize)> {
        let (subset, all) = (self.pool.subset, self.pool.members.len());
        let anybody = |level, members: usize| {
            (0..members).any(|place| Some(place) != except && self.fits(place, level, ask))
        };
        [(Level::Subset, subset), (Level::All, all)]
            .into_iter()
            .find(|(level, members)| !self.is_in_panic(*members) && anybody(*level, *members))
            .or_else(|| {
                [Level::Ejected, Level::Tried, Level::Unwanted, Level::Dead]
                    .into_iter()
                    .map(|level| (level, all))
                    .find(|(level, members)| anybody(*level, *members))
            })
    }

    /// Whether more than half of the weight of the first `members` is ejected or cannot be reached.
    fn is_in_panic(&self, members: usize) -> bool {
        let can = |place: &usize| {
            let candidate = self.candidate(*place);
            candidate.is_live() && !candidate.load().health().is_ejected()
        };
        let well: u64 = (0..members).filter(can).map(|place| self.own_weight(place)).sum();
        (well as f64) < PANIC * self.pool.total(members) as f64
    }

    /// The one with the highest `score` among those of the first level that has any, and those that may be tried again.
    /// `score` is given a place and its weight.
    pub(crate) fn best(&self, ask: &Ask<'_>, score: impl Fn(usize, f64) -> f64) -> Option<Drawn> {
        let (level, members) = self.level(ask, None)?;
        let best = |with_probes: bool| {
            let mut best: Option<(f64, Drawn)> = None;
            for place in 0..members {
                let probe = with_probes && level <= Level::All && self.has_probe(place, ask);
                if probe || self.fits(place, level, ask) {
                    let own = score(place, self.weight(place) as f64 * self.warmth(place, ask));
                    if best.is_none_or(|(highest, _)| own > highest) {
                        best = Some((own, Drawn { place, probe }));
                    }
                }
            }
            best.map(|(_, drawn)| drawn)
        };
        match best(true) {
            // Another request was faster.
            Some(drawn) if drawn.probe && !self.takes_probe(drawn.place, ask) => best(false),
            best => best,
        }
    }

    /// Whether one comes into question as soon as another.
    pub(crate) fn is_as_good(&self, one: usize, other: usize, ask: &Ask<'_>) -> bool {
        let rank = |place| LEVELS.into_iter().position(|level| self.fits(place, level, ask));
        rank(one) <= rank(other)
    }

    fn fits(&self, place: usize, level: Level, ask: &Ask<'_>) -> bool {
        let candidate = self.candidate(place);
        let fresh = || !ask.tried.contains(&self.position(place));
        (level >= Level::Dead || candidate.is_live())
            && (level >= Level::Ejected || !candidate.load().health().is_ejected())
            && (level >= Level::Unwanted || candidate.instance().weight > 0)
            && (level >= Level::Tried || fresh())
    }

    /// Whether the one request that may try it again would be this one.
    fn has_probe(&self, place: usize, ask: &Ask<'_>) -> bool {
        let candidate = self.candidate(place);
        let load = candidate.load();
        load.health().is_on_probation()
            && self.fits(place, Level::Ejected, ask)
            && load.health().has_probe(load.millis(ask.now))
    }

    fn takes_probe(&self, place: usize, ask: &Ask<'_>) -> bool {
        let load = self.candidate(place).load();
        self.has_probe(place, ask) && load.health().take_probe(load.millis(ask.now))
    }

    fn is_warm(&self, place: usize, ask: &Ask<'_>) -> bool {
        let warmth = self.warmth(place, ask);
        warmth >= 1.0 || ask.rng.unit() < warmth
    }

    fn warmth(&self, place: usize, ask: &Ask<'_>) -> f64 {
        self.candidate(place).load().warmth(&self.pool.slow_start, ask.now)
    }

    fn own_weight(&self, place: usize) -> u64 {
        u64::from(self.candidate(place).instance().weight)
    }

    /// Where nobody else is left even a weight of 0 is better than no instance at all.
    fn weight(&self, place: usize) -> u64 {
        self.own_weight(place).max(1)
    }
}
