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
/// - An overload is a queue: all requests of a bucket waited before their first step, which is where an async service
///   queues. The processor's load alone says nothing of this service, for others may be who is busy; when it is high, a
///   shorter wait is enough. It is smoothed over 200 ms, not over seconds ([`CpuLoad`](crate::CpuLoad)).
/// - What is shed after the queue is gone does not prolong the time in which the limit is enforced.
/// - Only successes count. What fails fast would raise the limit.
/// - In a long overload the window has only answers that waited, and the limit would follow its own queue. So each
///   `probe_every` it is lowered for a moment, to see how long an answer takes without one (BBR's ProbeRTT).
/// - The limit is never below `floor`: with no more requests than processors nobody waits for one. And it leaves room for
///   chance, four times the square root of what there is on average, or it would shed a load that the service can do.
/// - Who waits for `too_long` before its first step tells of an overload at once, and gives up its place: a burst that
///   was let in before anybody noticed does not hold up those that come after it.
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
    /// How long every request of a bucket waited at least before its first step, for that to be too much: 5 ms, CoDel's
    /// target (RFC 8289, 4.4).
    pub queue: Duration,
    /// How long one waits before its first step that should not have been let in: 100 ms, CoDel's interval.
    pub too_long: Duration,
    /// How long the limit is still enforced after something was shed because of a queue: 1 s.
    pub cooling: Duration,
    /// How often the limit is lowered in an overload: 10 s, BBR's.
    pub probe_every: Duration,
    /// What it is lowered to: 0.5 of it, as in BBR's second version.
    pub probe: f64,
    /// The lowest limit: what the machine does at the same time. 1 if that is not known.
    pub floor: u32,
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
            cooling: Duration::from_secs(1),
            probe_every: Duration::from_secs(10),
            probe: 0.5,
            floor: 1,
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
    /// The last tick in which there was a queue.
    queued: AtomicU64,
    /// When something was shed because of one, as nanoseconds and one more; 0 if never.
    shed: AtomicU64,
    /// The shortest wait before a first step in this tick; `u64::MAX` if there was none.
    waited: AtomicU64,
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
            queued: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            waited: AtomicU64::new(u64::MAX),
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
        let enforced = || self.queued.load(Ordering::Relaxed) == tick || self.has_shed_lately(now);
        (limit != u32::MAX && enforced()).then_some(limit)
    }

    /// What would be enforced; `None` while nothing is known.
    pub(crate) fn known_limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != u32::MAX)
    }

    /// What would be enforced, were it not lowered for a moment.
    pub(crate) fn full_limit(&self) -> u32 {
        self.full.load(Ordering::Relaxed)
    }

    fn has_shed_lately(&self, now: Instant) -> bool {
        let shed = self.shed.load(Ordering::Relaxed);
        shed > 0 && self.ticks.nanos(now).saturating_sub(shed - 1) < self.options.cooling.as_nanos() as u64
    }

    /// Something was shed.
    pub(crate) fn has_shed(&self, now: Instant) {
        if self.queued.load(Ordering::Relaxed) == self.ticks.at(now) {
            self.shed.store(self.ticks.nanos(now) + 1, Ordering::Relaxed);
        }
    }

    /// A request took its first step after waiting so long; true if that was too long.
    pub(crate) fn waited(&self, wait: Duration, now: Instant) -> bool {
        let nanos = wait.as_nanos() as u64;
        if nanos < self.waited.load(Ordering::Relaxed) {
            self.waited.fetch_min(nanos, Ordering::Relaxed);
        }
        if wait >= self.options.too_long / 2 {
            self.queued.store(self.ticks.at(now), Ordering::Relaxed);
        }
        wait >= self.options.too_long
    }

    /// A request succeeded.
    pub(crate) fn succeeded(&self, took: Duration, now: Instant) {
        self.window.add(self.ticks.at(now), [1, took.as_nanos() as u64]);
    }

    /// Works out the limit from the buckets that are complete. Once a tick, by whoever comes first.
    fn work_out(&self, tick: u64, is_busy: bool, now: Instant) {
        let Ok(mut floor_time) = self.floor_time.try_lock() else { return };
        // Somebody's time may be a moment behind another's.
        let before = self.worked_out.load(Ordering::Relaxed);
        if before >= tick {
            return;
        }
        self.worked_out.store(tick, Ordering::Relaxed);
        let waited = self.waited.swap(u64::MAX, Ordering::Relaxed);
        // With a tick in between in which nobody asked, nobody waits.
        let too_much = if is_busy { self.options.short_queue } else { self.options.queue };
        let queues = before + 1 == tick && waited != u64::MAX && waited > too_much.as_nanos() as u64;
        if queues {
            self.queued.store(tick, Ordering::Relaxed);
        }
        let overloaded = is_busy || queues || self.has_shed_lately(now);
        let (mut most, mut shortest, mut last) = (0, u64::MAX, u64::MAX);
        for (own, [passed, nanos]) in self.window.buckets(tick) {
            if own == tick || passed == 0 {
                continue;
            }
            let mean = nanos / passed;
            (most, shortest) = (most.max(passed), shortest.min(mean));
            if own + 1 == tick {
                last = mean;
            }
        }
        if most == 0 {
            self.limit.store(u32::MAX, Ordering::Relaxed);
            *floor_time = FloorTime::default();
            return;
        }
        let probing = floor_time.update(tick, overloaded, shortest, last, &self.options, &self.ticks);
        let bucket = self.ticks.length().as_secs_f64();
        let limit = most as f64 * floor_time.nanos as f64 / 1e9 / bucket;
        let limit = limit.max(f64::from(self.options.floor.max(1)));
        let full = limit + CHANCE * limit.sqrt();
        let limit = if probing { (limit * self.options.probe).max(1.0) } else { full };
        let whole = |limit: f64| limit.ceil().min(f64::from(u32::MAX - 1)) as u32;
        self.full.store(whole(full), Ordering::Relaxed);
        self.limit.store(whole(limit), Ordering::Relaxed);
    }
}

/// How many standard deviations of a random number of requests are let in on top of their mean.
const CHANCE: f64 = 4.0;

/// A probe lasts for two answers that began before it, and two buckets.
const PROBE_ANSWERS: u64 = 2;
const PROBE_TICKS: u64 = 2;

/// Between two probes there is at least so many times the time of one.
const PROBE_SPACING: u64 = 20;

impl FloorTime {
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
