//! How an instance's requests ended.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use bowline_core::Code;

/// How a request ended, as far as it tells something of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was answered; that the answer may be the caller's error is not the instance's fault.
    Answered,
    /// The instance said that it has enough to do. It works: to eject it would give its load to the others.
    Refused,
    /// The instance failed: 500 and the like.
    Failed,
    /// It could not be reached or did not answer in time: Envoy's gateway errors, 502, 503 and 504.
    Unreachable,
    /// The caller gave up: nothing was learnt.
    Canceled,
}

impl Outcome {
    /// What a status says; `None` is success.
    pub fn of(code: Option<Code>) -> Self {
        match code {
            Some(Code::Unavailable | Code::DeadlineExceeded) => Self::Unreachable,
            Some(Code::Internal | Code::Unknown | Code::DataLoss) => Self::Failed,
            Some(Code::ResourceExhausted) => Self::Refused,
            Some(Code::Canceled) => Self::Canceled,
            _ => Self::Answered,
        }
    }
}

/// What [`Ejection`](crate::Ejection) knows of an instance. Part of its [`Load`](crate::Load).
///
/// An instance is healthy, ejected for a time, or on probation: its time is over and one request at a time may find out
/// whether it is well again.
#[derive(Debug, Default)]
pub struct Health {
    state: AtomicU8,
    /// Failures in a row, and those of them that were gateway errors in a row.
    failures: AtomicU32,
    gateway: AtomicU32,
    /// Requests of this interval that ended well and badly.
    good: AtomicU32,
    bad: AtomicU32,
    /// How often it was ejected, lately.
    times: AtomicU32,
    until: AtomicU64,
    /// What `until` is made of, for the next time, in milliseconds.
    base: AtomicU64,
    longest: AtomicU64,
    /// Who has the one probe: nobody (0), whoever was given it at that time (milliseconds and one more), or a
    /// request that is under way ([`RUNNING`]).
    probe: AtomicU64,
    /// When it last answered, as milliseconds and one more; 0 if never.
    heard: AtomicU64,
}

const HEALTHY: u8 = 0;
const EJECTED: u8 = 1;
const PROBATION: u8 = 2;

/// After how many failures in a row each further one asks for a look at once, instead of at the next interval, and
/// after how many only each of so many does: a look goes over all instances, and when all fail, every request would
/// ask for one. [`Ejection`](crate::Ejection) decides by its own numbers.
const LOOK_AFTER: u32 = 2;
const LOOK_SELDOM_AFTER: u32 = 16;

const RUNNING: u64 = u64::MAX;

/// A probe that was taken and never sent, because no connection could be made, is given up after 10 s.
const PROBE_GIVEN_UP_MS: u64 = 10_000;

impl Health {
    /// Whether it gets no requests because of its failures.
    pub fn is_ejected(&self) -> bool {
        self.state.load(Ordering::Relaxed) != HEALTHY
    }

    /// Whether it is ejected and one request at a time may try it.
    pub fn is_on_probation(&self) -> bool {
        self.state.load(Ordering::Relaxed) == PROBATION
    }

    /// How often it was ejected. One less for each interval in which it was well.
    pub fn times_ejected(&self) -> u32 {
        self.times.load(Ordering::Relaxed)
    }

    /// Notes how a request ended; true if it should be looked at: it fails, or it has come back. While it is ejected only
    /// the probe's end counts: the others began before, or in a panic.
    pub(crate) fn record(&self, outcome: Outcome, probe: bool, now: u64) -> bool {
        match outcome {
            Outcome::Canceled => return false,
            // It is there, and says no: neither a success nor a failure.
            Outcome::Refused => {
                self.heard.store(now + 1, Ordering::Relaxed);
                return false;
            }
            Outcome::Answered => {
                self.heard.store(now + 1, Ordering::Relaxed);
                self.worked();
                self.good.fetch_add(1, Ordering::Relaxed);
                let is_back = probe && self.is_on_probation();
                if is_back {
                    self.readmit();
                }
                return is_back;
            }
            Outcome::Failed => {
                self.heard.store(now + 1, Ordering::Relaxed);
                self.gateway.store(0, Ordering::Relaxed);
            }
            Outcome::Unreachable => {
                self.gateway.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.bad.fetch_add(1, Ordering::Relaxed);
        if probe && self.is_on_probation() {
            let (base, longest) = (self.base.load(Ordering::Relaxed), self.longest.load(Ordering::Relaxed));
            self.eject(now, base, longest);
            return true;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let is_time =
            (LOOK_AFTER..LOOK_SELDOM_AFTER).contains(&failures) || failures.is_multiple_of(LOOK_SELDOM_AFTER);
        is_time && !self.is_ejected()
    }

    /// Whether the one probe of an instance on probation is free.
    pub(crate) fn has_probe(&self, now: u64) -> bool {
        self.is_on_probation() && is_free(self.probe.load(Ordering::Relaxed), now)
    }

    /// Takes it.
    pub(crate) fn take_probe(&self, now: u64) -> bool {
        let held = self.probe.load(Ordering::Relaxed);
        self.is_on_probation()
            && is_free(held, now)
            && self.probe.compare_exchange(held, now + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A request begins; true if it is the probe.
    pub(crate) fn probe_began(&self) -> bool {
        let held = self.probe.load(Ordering::Relaxed);
        held != 0
            && held != RUNNING
            && self.probe.compare_exchange(held, RUNNING, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The probe ended, or was given up.
    pub(crate) fn probe_ended(&self) {
        self.probe.store(0, Ordering::Relaxed);
    }

    /// How many requests in a row failed, and how many in a row did not get through (gateway errors).
    pub fn failures(&self) -> (u32, u32) {
        (self.failures.load(Ordering::Relaxed), self.gateway.load(Ordering::Relaxed))
    }

    /// What ended well and badly since the last time this was asked.
    pub(crate) fn take_counts(&self) -> (u32, u32) {
        (self.good.swap(0, Ordering::Relaxed), self.bad.swap(0, Ordering::Relaxed))
    }

    /// Ejects it for `base` × how often it was, but not longer than `longest`; all in milliseconds.
    pub(crate) fn eject(&self, now: u64, base: u64, longest: u64) {
        let times = u64::from(self.times.fetch_add(1, Ordering::Relaxed)) + 1;
        self.base.store(base, Ordering::Relaxed);
        self.longest.store(longest, Ordering::Relaxed);
        let pause = base.saturating_mul(times).min(longest.max(base));
        self.until.store(now.saturating_add(pause), Ordering::Relaxed);
        self.clear();
        self.state.store(EJECTED, Ordering::Release);
    }

    /// Its time is over: it may be tried.
    pub(crate) fn try_again(&self, now: u64) {
        if self.state.load(Ordering::Acquire) == EJECTED && now >= self.until.load(Ordering::Relaxed) {
            self.state.store(PROBATION, Ordering::Relaxed);
        }
    }

    /// How long it is ejected from now, if it is and its time is not over.
    pub(crate) fn time_left(&self, now: u64) -> Option<std::time::Duration> {
        let is_ejected = self.state.load(Ordering::Acquire) == EJECTED;
        let left = self.until.load(Ordering::Relaxed).saturating_sub(now);
        is_ejected.then(|| std::time::Duration::from_millis(left))
    }

    /// It is well again.
    pub(crate) fn readmit(&self) {
        self.clear();
        self.state.store(HEALTHY, Ordering::Relaxed);
    }

    /// Ends a row of failures. Mostly there is none: then nothing is written, which would take the memory from other
    /// cores.
    fn worked(&self) {
        for row in [&self.failures, &self.gateway] {
            if row.load(Ordering::Relaxed) != 0 {
                row.store(0, Ordering::Relaxed);
            }
        }
    }

    /// What was seen before says nothing of what comes.
    fn clear(&self) {
        for count in [&self.failures, &self.gateway, &self.good, &self.bad] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// An interval has passed in which it was well.
    pub(crate) fn forgive(&self) {
        let _ = self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1));
    }

    /// When it last answered anything, in milliseconds.
    pub(crate) fn heard(&self) -> Option<u64> {
        self.heard.load(Ordering::Relaxed).checked_sub(1)
    }
}

fn is_free(probe: u64, now: u64) -> bool {
    probe == 0 || (probe != RUNNING && now.saturating_sub(probe - 1) >= PROBE_GIVEN_UP_MS)
}
