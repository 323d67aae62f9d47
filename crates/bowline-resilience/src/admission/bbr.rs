//! As many at a time as the bandwidth-delay product says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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
/// - The processor's load is smoothed over 200 ms, not over seconds ([`CpuLoad`](crate::CpuLoad)); and requests that
///   all waited before their first step tell of an overload too, within one bucket. That is where an async service
///   queues.
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
    /// The processor's load from which on there is too much to do, from 0 to 1: 0.8.
    pub cpu: f64,
    /// How long every request of a bucket waited at least before its first step, for that to be too much: 5 ms, CoDel's
    /// target (RFC 8289, 4.4).
    pub queue: Duration,
    /// How long one waits before its first step that should not have been let in: 100 ms, CoDel's interval.
    pub too_long: Duration,
    /// How long after the last one that was shed the limit is still enforced: 1 s.
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
    /// When something was shed, as nanoseconds and one more.
    shed: AtomicU64,
    /// The shortest wait before a first step in this tick; `u64::MAX` if there was none.
    waited: AtomicU64,
    /// Whether everybody had to wait in the last tick, or the last one for half of what is too long.
    queues: AtomicBool,
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
            shed: AtomicU64::new(0),
            waited: AtomicU64::new(u64::MAX),
            queues: AtomicBool::new(false),
            floor_time: Mutex::default(),
            options,
        }
    }

    /// The limit now; `None` if there is none, because there is not too much to do or nothing is known.
    pub(crate) fn limit(&self, cpu: f64, now: Instant) -> Option<u32> {
        let tick = self.ticks.at(now);
        let is_busy = cpu >= self.options.cpu || self.has_shed_lately(now);
        if self.worked_out.load(Ordering::Relaxed) != tick {
            self.work_out(tick, is_busy);
        }
        let enforced = is_busy || self.queues.load(Ordering::Relaxed);
        let limit = self.limit.load(Ordering::Relaxed);
        (enforced && limit != u32::MAX).then_some(limit)
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

    pub(crate) fn has_shed(&self, now: Instant) {
        self.shed.store(self.ticks.nanos(now) + 1, Ordering::Relaxed);
    }

    /// A request took its first step after waiting so long; true if that was too long.
    pub(crate) fn waited(&self, wait: Duration) -> bool {
        let nanos = wait.as_nanos() as u64;
        if nanos < self.waited.load(Ordering::Relaxed) {
            self.waited.fetch_min(nanos, Ordering::Relaxed);
        }
        if wait >= self.options.too_long / 2 {
            self.queues.store(true, Ordering::Relaxed);
        }
        wait >= self.options.too_long
    }

    /// A request succeeded.
    pub(crate) fn succeeded(&self, took: Duration, now: Instant) {
        self.window.add(self.ticks.at(now), [1, took.as_nanos() as u64]);
    }

    /// Works out the limit from the buckets that are complete. Once a tick, by whoever comes first.
    fn work_out(&self, tick: u64, is_busy: bool) {
        let Ok(mut floor_time) = self.floor_time.try_lock() else { return };
        let before = self.worked_out.swap(tick, Ordering::Relaxed);
        if before == tick {
            return;
        }
        let waited = self.waited.swap(u64::MAX, Ordering::Relaxed);
        // With a tick in between in which nobody asked, nobody waits.
        let queues =
            before + 1 == tick && waited != u64::MAX && waited > self.options.queue.as_nanos() as u64;
        self.queues.store(queues, Ordering::Relaxed);
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
        let probing = floor_time.update(tick, is_busy || queues, shortest, last, &self.options, &self.ticks);
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
        if tick - self.measured < every {
            return false;
        }
        self.probe = Some((tick, tick + lasts, u64::MAX));
        true
    }
}
