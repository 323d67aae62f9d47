//! As many at a time as the bandwidth-delay product says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bowline_core::Instant;

use crate::window::{Ticks, Window};

/// When to shed, and how the limit is learnt.
///
/// The limit is that of bilibili's `aegis`, which took it from TCP BBR: the most answers a bucket has seen × the shortest
/// time an answer took × buckets a second. By Little's law that many requests keep the service just busy; each further
/// one only waits. It is enforced while there is too much to do, so that a service that waits for others is not
/// limited by what it happened to do before.
///
/// What is different from `aegis`:
/// - Times are in nanoseconds, and are the handlers' own: the time from the admission to the first step is measured by
///   itself, as the queue that it is. Rounded to whole milliseconds, a service that answers in 0.3 ms has its limit
///   wrong by three times.
/// - An overload is a queue: request after request waits before its first step, which is where an async service queues. The
///   processor's load alone says nothing of this service, for others may be who is busy; when it is high, a shorter wait is
///   enough. It is smoothed over 200 ms, not over seconds ([`CpuLoad`](crate::CpuLoad)).
/// - Who has begun counts up to what the service does at its best. Whoever is parked beyond that waits for something else than
///   a processor, and takes nobody's place.
/// - A queue has to last, as in CoDel. A process that others held up for a moment finds all that came meanwhile, and does it
///   in no time. Until a queue lasts, a burst is let in as far as it can be done within `too_long`. While it has not been long
///   that there was too much to do, each queue is.
/// - What is shed after the queue is gone does not prolong the time in which the limit is enforced.
/// - Only successes count. What fails fast would raise the limit.
/// - In a long overload the window has only answers that waited, and the limit would follow its own queue. So each
///   `probe_every` it is lowered for a moment, to see how long an answer takes without one (BBR's ProbeRTT).
/// - A service with little to do has not shown what it can do. So the limit is never below what its `processors` do within
///   `queue`, by the time that an answer takes, nor below one for each. And it leaves room for chance, four times
///   the square root of what there is on average, or it would shed a load that the service can do; and less the more it
///   has to refuse, down to once that root: there is always a next one then, and room is but a queue.
/// - Who waits for `too_long` before its first step while there is too much to do gives up its place: a burst that was let
///   in before anybody noticed does not hold up those that come after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BbrOptions {
    /// Over how long the best is remembered: 10 s.
    pub window: Duration,
    /// Into how many buckets it is divided: 100.
    pub buckets: usize,
    /// The processor's load from which on a shorter queue is too much, from 0 to 1: 0.8.
    pub cpu: f64,
    /// That shorter one: 1 ms.
    pub short_queue: Duration,
    /// How long each request waits before its first step, for that to be too much: 5 ms, CoDel's target (RFC 8289, 4.4).
    pub queue: Duration,
    /// How long one waits before its first step that should not have been let in: 100 ms, CoDel's interval.
    pub too_long: Duration,
    /// How long each has to wait until there is too much to do: 100 ms, CoDel's interval.
    pub lasting: Duration,
    /// How long the limit is still enforced after something was shed because of a queue: 1 s.
    pub cooling: Duration,
    /// How often the limit is lowered in an overload: 10 s, BBR's.
    pub probe_every: Duration,
    /// What it is lowered to: 0.5 of it, as in BBR's second version.
    pub probe: f64,
    /// How many things the machine does at the same time: 1 if that is not known.
    pub processors: u32,
}

impl Default for BbrOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            buckets: 100,
            cpu: 0.8,
            short_queue: Duration::from_millis(1),
            queue: Duration::from_millis(5),
            too_long: Duration::from_millis(100),
            lasting: Duration::from_millis(100),
            cooling: Duration::from_secs(1),
            probe_every: Duration::from_secs(10),
            probe: 0.5,
            processors: 1,
        }
    }
}

/// The limit, and whether it is enforced.
#[derive(Debug)]
pub(crate) struct Bbr {
    options: BbrOptions,
    ticks: Ticks,
    /// Successes and the nanoseconds they took.
    window: Window<2>,
    /// The tick for which the limit was worked out.
    worked_out: AtomicU64,
    /// `u32::MAX` while nothing is known.
    limit: AtomicU32,
    /// The limit as it is when it is not lowered.
    full: AtomicU32,
    /// What it is without room for chance.
    base: AtomicU32,
    /// As far as a burst is let in.
    burst: AtomicU32,
    /// For how long one first step after the other was taken too late, in nanoseconds and one more; 0 while they are not.
    late_for: AtomicU64,
    /// When the last of them was.
    late: AtomicU64,
    /// The nanoseconds between two first steps that the service needs itself; in more of them others held it up.
    gap: AtomicU64,
    /// When something was shed because of one, as nanoseconds and one more; 0 if never.
    shed: AtomicU64,
    /// How many were refused since the limit was worked out.
    refused: AtomicU32,
    floor_time: Mutex<FloorTime>,
}

/// How long an answer takes that waits for nobody.
#[derive(Debug, Default)]
struct FloorTime {
    nanos: u64,
    /// The tick of the last measurement without a queue.
    measured: u64,
    /// From which tick to which the limit is lowered, and the shortest that was seen meanwhile.
    probe: Option<(u64, u64, u64)>,
    /// How many were refused lately, and how many passed.
    refused: f64,
    passed: f64,
}

impl Bbr {
    pub(crate) fn new(options: BbrOptions, now: Instant) -> Self {
        let buckets = options.buckets.max(2);
        Self {
            ticks: Ticks::new(now, options.window / buckets as u32),
            window: Window::new(buckets),
            worked_out: AtomicU64::new(0),
            limit: AtomicU32::new(u32::MAX),
            full: AtomicU32::new(u32::MAX),
            base: AtomicU32::new(u32::MAX),
            burst: AtomicU32::new(u32::MAX),
            late_for: AtomicU64::new(0),
            late: AtomicU64::new(0),
            gap: AtomicU64::new(GAP),
            shed: AtomicU64::new(0),
            refused: AtomicU32::new(0),
            floor_time: Mutex::default(),
            options,
        }
    }

    /// The limit now; `None` if there is none, because there is not too much to do or nothing is known.
    pub(crate) fn limit(&self, cpu: f64, now: Instant) -> Option<u32> {
        let tick = self.ticks.at(now);
        if self.worked_out.load(Ordering::Relaxed) < tick {
            self.work_out(tick, cpu >= self.options.cpu, now);
        }
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == u32::MAX {
            return None;
        }
        if self.is_overloaded(now) {
            return Some(limit);
        }
        self.has_queue(now).then(|| self.burst.load(Ordering::Relaxed))
    }

    /// What would be enforced; `None` while nothing is known.
    pub(crate) fn known_limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != u32::MAX)
    }

    /// What would be enforced, were it not lowered for a moment.
    pub(crate) fn full_limit(&self) -> u32 {
        self.full.load(Ordering::Relaxed)
    }

    /// Whether there is too much to do: a queue lasts, or is back after one that did, or was there a moment ago.
    fn is_overloaded(&self, now: Instant) -> bool {
        self.has_lasting_queue(now) || self.has_shed_within(self.options.cooling, now)
    }

    /// Whether the last two first steps were taken too late, and not long ago: one may be chance.
    fn has_queue(&self, now: Instant) -> bool {
        self.late_for.load(Ordering::Relaxed) > 1 && self.is_lately(self.late.load(Ordering::Relaxed), now)
    }

    fn is_lately(&self, since: u64, now: Instant) -> bool {
        let gaps = Duration::from_nanos(MOST_GAPS * self.gap.load(Ordering::Relaxed));
        self.is_within(gaps.max(self.options.lasting), since, now)
    }

    fn has_lasting_queue(&self, now: Instant) -> bool {
        let lasts = || self.late_for.load(Ordering::Relaxed) > self.options.lasting.as_nanos() as u64;
        self.has_queue(now) && (lasts() || self.has_shed_within(AGAIN * self.options.cooling, now))
    }

    /// How many that have begun count at most: by Little's law no more of them have the processors, and the others wait for
    /// something else.
    pub(crate) fn base(&self) -> u32 {
        self.base.load(Ordering::Relaxed)
    }

    fn has_shed_within(&self, time: Duration, now: Instant) -> bool {
        let shed = self.shed.load(Ordering::Relaxed);
        shed > 0 && self.is_within(time, shed, now)
    }

    /// Whether no more than `time` has passed since then.
    fn is_within(&self, time: Duration, since: u64, now: Instant) -> bool {
        self.stamp(now).saturating_sub(since) < time.as_nanos() as u64
    }

    /// Nanoseconds and one more: never 0.
    fn stamp(&self, now: Instant) -> u64 {
        self.ticks.nanos(now) + 1
    }

    /// Something was shed. Where it was of a burst, more has come than can be done within `too_long`: that is too much.
    pub(crate) fn has_shed(&self, now: Instant) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if self.has_queue(now) {
            self.shed.store(self.stamp(now), Ordering::Relaxed);
        }
    }

    /// A request took its first step after waiting so long; true if that was too long.
    pub(crate) fn waited(&self, wait: Duration, cpu: f64, now: Instant) -> bool {
        let too_much = if cpu >= self.options.cpu { self.options.short_queue } else { self.options.queue };
        if wait < too_much {
            // Most are in time, and write nothing.
            if self.late_for.load(Ordering::Relaxed) > 0 {
                self.late_for.store(0, Ordering::Relaxed);
            }
            return false;
        }
        // After a while in which nobody asked it begins anew; a moment in which nobody was served counts for little.
        let before = self.late.swap(self.stamp(now), Ordering::Relaxed);
        if self.late_for.load(Ordering::Relaxed) > 0 && self.is_lately(before, now) {
            let gap = self.stamp(now).saturating_sub(before).min(self.gap.load(Ordering::Relaxed));
            self.late_for.fetch_add(gap.max(1), Ordering::Relaxed);
        } else {
            self.late_for.store(1, Ordering::Relaxed);
        }
        wait >= self.options.too_long && self.is_overloaded(now)
    }

    /// A request succeeded.
    pub(crate) fn succeeded(&self, took: Duration, now: Instant) {
        self.window.add(self.ticks.at(now), [1, took.as_nanos() as u64]);
    }

    /// Works out the limit from the buckets that are complete. Once a tick, by whoever comes first.
    fn work_out(&self, tick: u64, is_busy: bool, now: Instant) {
        let Ok(mut floor_time) = self.floor_time.try_lock() else { return };
        // Somebody's time may be a moment behind another's.
        if self.worked_out.load(Ordering::Relaxed) >= tick {
            return;
        }
        self.worked_out.store(tick, Ordering::Relaxed);
        let overloaded = is_busy || self.is_overloaded(now);
        let (mut shortest, mut last, mut lately) = (u64::MAX, u64::MAX, 0);
        let mut passed_in = vec![0; self.options.buckets.max(2)];
        for (own, [passed, nanos]) in self.window.buckets(tick) {
            if own == tick || passed == 0 {
                continue;
            }
            passed_in[(tick - own - 1) as usize] = passed;
            let mean = nanos / passed;
            shortest = shortest.min(mean);
            if own + 1 == tick {
                (last, lately) = (mean, passed);
            }
        }
        let refused = f64::from(self.refused.swap(0, Ordering::Relaxed));
        floor_time.note(refused, lately as f64);
        let most = most(&passed_in);
        if most == 0.0 {
            self.limit.store(u32::MAX, Ordering::Relaxed);
            *floor_time = FloorTime::default();
            return;
        }
        let probing = floor_time.update(tick, overloaded, shortest, last, &self.options, &self.ticks);
        let bucket = self.ticks.length().as_secs_f64();
        let limit = most * floor_time.nanos as f64 / 1e9 / bucket;
        let whole = |limit: f64| limit.ceil().min(f64::from(u32::MAX - 1)) as u32;
        let processors = f64::from(self.options.processors.max(1));
        let within = |time: Duration| processors * (time.as_nanos() as f64 / floor_time.nanos.max(1) as f64);
        let limit = limit.max(processors).max(within(self.options.queue));
        self.base.store(whole(limit), Ordering::Relaxed);
        let full = limit + CHANCE * limit.sqrt();
        let limit = match probing {
            true => (limit * self.options.probe).max(1.0),
            false => limit + floor_time.chance() * limit.sqrt(),
        };
        self.gap.store((floor_time.nanos / processors as u64).clamp(GAP, MOST_GAP), Ordering::Relaxed);
        let burst = within(self.options.too_long).max(full * BURST);
        self.burst.store(whole(burst), Ordering::Relaxed);
        self.full.store(whole(full), Ordering::Relaxed);
        self.limit.store(whole(limit), Ordering::Relaxed);
    }
}

/// How many standard deviations of a random number of requests are let in on top of their mean; and where so many are refused
/// that there is always a next one.
const CHANCE: f64 = 4.0;
const NO_CHANCE: f64 = 1.0;

/// The part that is refused from which on that is so, and how much is forgotten in a tick: it is that of the last second.
const MANY: f64 = 0.3;
const FORGOTTEN: f64 = 0.1;

/// How many times the limit a burst may be, of a service that waits for something else than a processor.
const BURST: f64 = 4.0;

/// For so many times `cooling` after there was too much to do, a queue need not last.
const AGAIN: u32 = 2;

/// The nanoseconds between two first steps that any service may need itself, and the most that one may: 10 ms and 1 s.
const GAP: u64 = 10_000_000;
const MOST_GAP: u64 = 1_000_000_000;

/// After so many of them without a first step nothing is known of a queue.
const MOST_GAPS: u64 = 4;

/// A probe lasts for two answers that began before it, and two buckets.
const PROBE_ANSWERS: u64 = 2;
const PROBE_TICKS: u64 = 2;

/// Between two probes there is at least so many times the time of one.
const PROBE_SPACING: u64 = 20;

/// The most that passed in a bucket, at the mean of as many buckets in a row as it takes for [`ENOUGH`] of them: of few the
/// most is chance.
fn most(passed_in: &[u64]) -> f64 {
    let since = passed_in.iter().rposition(|passed| *passed > 0).map_or(0, |oldest| oldest + 1);
    let passed_in = &passed_in[..since];
    let served = passed_in.iter().filter(|passed| **passed > 0);
    let (buckets, all) = served.fold((0, 0), |(buckets, all), passed| (buckets + 1, all + passed));
    let row = (ENOUGH * buckets).div_ceil(all.max(1)).clamp(1, since.max(1) as u64) as usize;
    let sums = passed_in.windows(row).map(|row| row.iter().sum::<u64>());
    sums.max().unwrap_or_default() as f64 / row as f64
}

/// How many answers tell how many a service gives.
const ENOUGH: u64 = 50;

impl FloorTime {
    fn note(&mut self, refused: f64, passed: f64) {
        self.refused += refused - self.refused * FORGOTTEN;
        self.passed += passed - self.passed * FORGOTTEN;
    }

    fn chance(&self) -> f64 {
        let part = self.refused / (self.refused + self.passed).max(1.0);
        CHANCE - (CHANCE - NO_CHANCE) * (part / MANY).min(1.0)
    }

    /// Takes in what the last tick has shown; true if the limit is to be lowered in this one.
    fn update(
        &mut self,
        tick: u64,
        too_much: bool,
        shortest: u64,
        last: u64,
        options: &BbrOptions,
        ticks: &Ticks,
    ) -> bool {
        if let Some((_, until, seen)) = &mut self.probe {
            *seen = (*seen).min(last);
            if tick < *until {
                return true;
            }
            if *seen != u64::MAX {
                self.nanos = *seen;
            }
            (self.measured, self.probe) = (tick, None);
            return false;
        }
        if !too_much || self.nanos == 0 {
            (self.nanos, self.measured) = (shortest, tick);
            return false;
        }
        self.nanos = self.nanos.min(last);
        let length = ticks.length().as_nanos() as u64;
        let lasts = PROBE_TICKS + (PROBE_ANSWERS * self.nanos).div_ceil(length);
        let every = (options.probe_every.as_nanos() as u64).div_ceil(length).max(PROBE_SPACING * lasts);
        if tick.saturating_sub(self.measured) < every {
            return false;
        }
        self.probe = Some((tick, tick + lasts, u64::MAX));
        true
    }
}
