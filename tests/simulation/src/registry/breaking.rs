//! How things break and are mended.

use std::time::Duration;

use bowline_core::Rng;

use super::events::Event;
use super::faults::{self, Fault};
use super::sums::Reached;
use super::world::World;

impl World {
    /// Something changed about who reaches whom.
    pub(super) fn disturb(&mut self) {
        let now = self.now();
        self.hosts.iter_mut().for_each(|h| h.disturbed = now.max(h.paused));
    }

    pub(super) fn break_something(&mut self) {
        if self.healed {
            return;
        }
        self.events.after(Duration::from_secs(3) + self.rng.jitter(Duration::from_secs(15)), Event::Break);
        let (nodes, now) = (self.hosts.len(), self.now());
        let (fault, time) = faults::draw(&self.plan, nodes, self.network.places(), &self.rng);
        self.sums.faults += 1;
        self.sums.reach(kind(&fault), 1);
        self.tell(|| format!("{fault:?} for {time:?}"));
        self.disturb();
        match fault {
            Fault::Partition(_) | Fault::Apart(_) | Fault::OneWay(..) | Fault::Loss(_) => {
                self.next_fault += 1;
                self.faults.insert(self.next_fault, fault);
                self.apply_faults();
                self.events.after(time, Event::Mend(self.next_fault));
            }
            Fault::Crash(n, down) => self.crash(n, down),
            Fault::CrashAll => {
                for n in 0..nodes {
                    let down = self.rng.jitter(Duration::from_secs(3));
                    self.crash(n, down);
                }
            }
            Fault::Pause(n) => {
                self.hosts[n].paused = self.hosts[n].paused.max(now + time);
                self.events.at(self.hosts[n].paused, Event::Resume(n));
                self.disturb();
            }
            Fault::Clock(n, skew) => self.hosts[n].skew = skew,
        }
    }

    /// A node goes on, if it is time.
    pub(super) fn resume(&mut self, n: usize) {
        if self.hosts[n].paused <= self.now() {
            for event in std::mem::take(&mut self.hosts[n].waiting) {
                self.events.at(self.events.now, event);
            }
        }
    }

    pub(super) fn crash(&mut self, n: usize, down: Duration) {
        let Some(node) = self.hosts[n].node.take() else { return };
        self.tell(|| format!("node {n} dies"));
        for stream in node.streams.keys().copied() {
            let Some(s) = self.streams.get(&stream) else { continue };
            let other = if s.ends[0] == n { s.ends[1] } else { s.ends[0] };
            // Its machine says so, or it is gone as well.
            if self.rng.below(3) > 0
                && let Some(delay) = self.network.send(n, other, &self.rng)
            {
                self.events.after(delay, Event::Reset(stream, other));
            }
        }
        self.hosts[n].paused = self.now();
        self.resume(n);
        self.events.after(down, Event::Boot(n));
    }

    pub(super) fn apply_faults(&mut self) {
        self.network.heal();
        let places = self.network.places();
        for fault in self.faults.values() {
            match fault {
                Fault::Partition(side) => {
                    for (from, to) in (0..places).flat_map(|f| (0..places).map(move |t| (f, t))) {
                        if side.contains(&from) != side.contains(&to) {
                            self.network.cut(from, to);
                        }
                    }
                }
                Fault::Apart(side) => {
                    let nodes = self.hosts.len();
                    for (from, to) in (0..nodes).flat_map(|f| (0..nodes).map(move |t| (f, t))) {
                        if side.contains(&from) != side.contains(&to) {
                            self.network.cut(from, to);
                        }
                    }
                }
                Fault::OneWay(from, to) => self.network.cut(*from, *to),
                Fault::Loss(share) => self.network.lose(*share),
                _ => {}
            }
        }
    }

    /// Whether some nodes do not reach some others.
    pub(super) fn is_apart(&self) -> bool {
        self.faults.values().any(|f| matches!(f, Fault::Partition(_) | Fault::Apart(_)))
    }

    pub(super) fn mend(&mut self, fault: u64) {
        if self.faults.remove(&fault).is_some() {
            self.apply_faults();
            self.disturb();
            self.tell(|| "something is mended".to_owned());
        }
    }

    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.faults.clear();
        self.apply_faults();
        let now = self.now();
        for n in 0..self.hosts.len() {
            self.hosts[n].paused = now;
            self.resume(n);
            if self.hosts[n].node.is_none() {
                self.boot(n);
            }
        }
        self.disturb();
        self.tell(|| "all is mended".to_owned());
    }
}

fn kind(fault: &Fault) -> Reached {
    match fault {
        Fault::Partition(_) => Reached::Partition,
        Fault::Apart(_) => Reached::Apart,
        Fault::OneWay(..) => Reached::OneWay,
        Fault::Loss(_) => Reached::Loss,
        Fault::Crash(..) => Reached::Crash,
        Fault::CrashAll => Reached::CrashOfAll,
        Fault::Pause(_) => Reached::Pause,
        Fault::Clock(..) => Reached::ClockJump,
    }
}
