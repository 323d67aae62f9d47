//! How busy the processor is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_core::{Error, Instant, Result, WrapErr};

/// The processor's load, from 0 to 1, of what this process may use. A clone reads the same.
#[derive(Clone, Debug, Default)]
pub struct CpuLoad(Arc<AtomicU64>);

impl CpuLoad {
    /// The load now; 0 while nothing was measured.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Sets it.
    pub fn set(&self, load: f64) {
        self.0.store(load.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }
}

/// How often to measure: 100 ms.
pub const CPU_INTERVAL: Duration = Duration::from_millis(100);

/// How much of a new measurement is taken over: half, so that after two of them three quarters of a change are seen.
const SMOOTHING: f64 = 0.5;

/// How often to look for what may be used: a container's limit may be changed while it runs.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Measures the processor's load: of the container, where control groups limit it (version 2 or 1), else of the machine.
///
/// Whoever owns it calls [`CpuMeter::measure`] each [`CPU_INTERVAL`]. It reads a file or two of the kernel's, which takes
/// microseconds and never waits.
#[derive(Debug)]
pub struct CpuMeter {
    root: PathBuf,
    source: Source,
    looked: Option<Instant>,
    load: CpuLoad,
    /// What was used until when: nanoseconds of processor time, or of the machine's time in it.
    last: Option<(Used, Instant)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Source {
    /// `cpu.stat` of a group, and how many processors it may use.
    CgroupV2 { stat: PathBuf, processors: f64 },
    /// `cpuacct.usage` of a group, and how many processors it may use.
    CgroupV1 { usage: PathBuf, processors: f64 },
    /// The machine's `/proc/stat`.
    Machine { stat: PathBuf },
}

/// What was used since some time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Used {
    /// Processor time in nanoseconds.
    Nanos(u64),
    /// Clock ticks that were busy, of all.
    Ticks { busy: u64, all: u64 },
}

impl CpuMeter {
    /// Finds out where to read it.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` where there is neither a control group nor `/proc/stat`: not on Linux.
    pub fn new() -> Result<Self> {
        Self::at(Path::new("/"))
    }

    fn at(root: &Path) -> Result<Self> {
        let source = Source::find(root).ok_or_else(|| {
            Error::unimplemented("the processor's load is known on Linux only: neither a control group nor /proc/stat is there")
        })?;
        Ok(Self { root: root.to_owned(), source, looked: None, load: CpuLoad::default(), last: None })
    }

    /// The load as it is measured.
    pub fn load(&self) -> CpuLoad {
        self.load.clone()
    }

    /// How many processors there are to use: what the group may, or what the machine has. At least 1.
    pub fn processors(&self) -> u32 {
        let own = match &self.source {
            Source::CgroupV2 { processors, .. } | Source::CgroupV1 { processors, .. } => {
                processors.ceil() as u32
            }
            Source::Machine { .. } => std::thread::available_parallelism().map_or(1, |all| all.get() as u32),
        };
        own.max(1)
    }

    /// Measures once.
    ///
    /// # Errors
    /// Why the kernel's file cannot be read; the load stays what it was.
    pub fn measure(&mut self, now: Instant) -> Result<()> {
        if now.saturating_duration_since(*self.looked.get_or_insert(now)) >= LOOK_EVERY {
            self.looked = Some(now);
            self.look();
        }
        let used = self.source.read()?;
        if let Some((before, at)) = self.last {
            let elapsed = now.saturating_duration_since(at);
            let Some(share) = self.source.share(before, used, elapsed) else { return Ok(()) };
            let smoothed = self.load.get() + (share.clamp(0.0, 1.0) - self.load.get()) * SMOOTHING;
            self.load.set(smoothed);
        }
        self.last = Some((used, now));
        Ok(())
    }

    /// Looks again for what may be used. What cannot be read now stays as it was.
    fn look(&mut self) {
        let Some(found) = Source::find(&self.root).filter(|found| *found != self.source) else { return };
        // What another file counts has nothing to do with what this one counted.
        if found.path() != self.source.path() {
            self.last = None;
        }
        self.source = found;
    }
}

impl Source {
    fn find(root: &Path) -> Option<Self> {
        Self::v2(root).or_else(|| Self::v1(root)).or_else(|| {
            let stat = root.join("proc/stat");
            stat.exists().then_some(Self::Machine { stat })
        })
    }

    /// The own group and those above it: the tightest limit of them counts.
    fn v2(root: &Path) -> Option<Self> {
        let mount = root.join("sys/fs/cgroup");
        let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
        // In a container the path may be that of the host, which is not mounted here: then its own is the root.
        let own = Some(mount.join(own))
            .filter(|path| path.join("cpu.stat").exists())
            .unwrap_or_else(|| mount.clone());
        let limits = own.ancestors().take_while(|path| path.starts_with(&mount)).filter_map(|path| {
            let text = std::fs::read_to_string(path.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            let processors = quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?;
            Some((processors, path.join("cpu.stat")))
        });
        let (processors, stat) = limits.min_by(|one, other| one.0.total_cmp(&other.0))?;
        let processors = processors.min(machine(root));
        (processors > 0.0 && stat.exists()).then_some(Self::CgroupV2 { stat, processors })
    }

    fn v1(root: &Path) -> Option<Self> {
        let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let of = |controller: &str| {
            let line = groups.lines().find(|line| {
                line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controller))
            })?;
            let own = line.splitn(3, ':').nth(2)?.trim_start_matches('/');
            let mount = root.join("sys/fs/cgroup").join(controller);
            Some(Some(mount.join(own)).filter(|path| path.exists()).unwrap_or(mount))
        };
        let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<f64>().ok();
        let cpu = of("cpu")?;
        let processors = number(cpu.join("cpu.cfs_quota_us"))? / number(cpu.join("cpu.cfs_period_us"))?;
        let usage = of("cpuacct")?.join("cpuacct.usage");
        let processors = processors.min(machine(root));
        // −1 is no limit.
        (processors > 0.0 && usage.exists()).then_some(Self::CgroupV1 { usage, processors })
    }

    /// Where it counts.
    fn path(&self) -> &Path {
        match self {
            Self::CgroupV2 { stat, .. } | Self::Machine { stat } => stat,
            Self::CgroupV1 { usage, .. } => usage,
        }
    }

    fn read(&self) -> Result<Used> {
        let path = self.path();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the processor's load from {}", path.display()))?;
        let used = match self {
            Self::CgroupV2 { .. } => text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))
                .and_then(|micros| micros.trim().parse::<u64>().ok())
                .map(|micros| Used::Nanos(micros.saturating_mul(1_000))),
            Self::CgroupV1 { .. } => text.trim().parse().ok().map(Used::Nanos),
            Self::Machine { .. } => ticks(&text),
        };
        used.ok_or_else(|| {
            Error::internal(format!("{} is not what the kernel's documents say", path.display()))
        })
    }

    /// The part of what could have been used since; `None` where too little time has passed to tell.
    fn share(&self, before: Used, now: Used, elapsed: Duration) -> Option<f64> {
        match (before, now, self) {
            (
                Used::Nanos(before),
                Used::Nanos(now),
                Self::CgroupV2 { processors, .. } | Self::CgroupV1 { processors, .. },
            ) => {
                let could = elapsed.as_nanos() as f64 * processors;
                (could > 0.0).then(|| now.saturating_sub(before) as f64 / could)
            }
            (Used::Ticks { busy: b0, all: a0 }, Used::Ticks { busy: b1, all: a1 }, _) => {
                let all = a1.saturating_sub(a0);
                (all > 0).then(|| b1.saturating_sub(b0) as f64 / all as f64)
            }
            _ => None,
        }
    }
}

/// How many processors the machine has: a group may be allowed more. Without end where that is not known.
fn machine(root: &Path) -> f64 {
    let text = std::fs::read_to_string(root.join("proc/stat")).unwrap_or_default();
    let is_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let count = text.lines().filter(is_one).count();
    if count > 0 { count as f64 } else { f64::INFINITY }
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. Time that the hypervisor gave to
/// others is neither ours nor idle, and is left out.
fn ticks(text: &str) -> Option<Used> {
    let numbers = text.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let at = |i: usize| numbers.get(i).copied().unwrap_or(0);
    (numbers.len() >= 4).then(|| {
        let busy = at(0) + at(1) + at(2) + at(5) + at(6);
        Used::Ticks { busy, all: busy + at(3) + at(4) }
    })
}

#[cfg(test)]
mod tests;
