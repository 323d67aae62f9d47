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

/// Measures the processor's load: of the container, where control groups limit it (version 2 or 1), else of the machine.
///
/// Whoever owns it calls [`CpuMeter::measure`] each [`CPU_INTERVAL`]. It reads a file or two of the kernel's, which takes
/// microseconds and never waits.
#[derive(Debug)]
pub struct CpuMeter {
    source: Source,
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
        Ok(Self { source, load: CpuLoad::default(), last: None })
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

    fn read(&self) -> Result<Used> {
        let path = match self {
            Self::CgroupV2 { stat, .. } | Self::Machine { stat } => stat,
            Self::CgroupV1 { usage, .. } => usage,
        };
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
mod tests {
    use bowline_core::{Clock, ManualClock};

    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = Self(std::env::temp_dir().join(format!("bowline-cpu-{name}-{}", std::process::id())));
            for (path, text) in files {
                root.write(path, text);
            }
            root
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Measures until it is steady, with so many units used per interval.
    fn steady(root: &Root, path: &str, text: impl Fn(u64) -> String) -> f64 {
        let mut meter = CpuMeter::at(&root.0).unwrap();
        let clock = ManualClock::new();
        for n in 0..12 {
            root.write(path, &text(n));
            meter.measure(clock.now()).unwrap();
            clock.advance(CPU_INTERVAL);
        }
        meter.load().get()
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = Root::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/kube/pod\n"),
                ("sys/fs/cgroup/kube/cpu.max", "50000 100000"),
                ("sys/fs/cgroup/kube/cpu.stat", "usage_usec 0\n"),
                ("sys/fs/cgroup/kube/pod/cpu.max", "max 100000"),
                ("sys/fs/cgroup/kube/pod/cpu.stat", "usage_usec 0\n"),
            ],
        );
        // 40 ms in 100 ms, of the 50 that it may have.
        let load = steady(&root, "sys/fs/cgroup/kube/cpu.stat", |n| {
            format!("usage_usec {}\nuser_usec 1\n", n * 40_000)
        });
        assert!((load - 0.8).abs() < 0.001, "{load}");
    }

    #[test]
    fn a_group_that_may_use_more_than_there_is_uses_what_there_is() {
        let root = Root::new(
            "large",
            &[
                ("proc/self/cgroup", "0::/\n"),
                ("proc/stat", "cpu  1 2 3 4\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 1\n"),
                ("sys/fs/cgroup/cpu.max", "800000 100000"),
                ("sys/fs/cgroup/cpu.stat", "usage_usec 0\n"),
            ],
        );
        let load = steady(&root, "sys/fs/cgroup/cpu.stat", |n| format!("usage_usec {}\n", n * 150_000));
        assert!((load - 0.75).abs() < 0.001, "{load}");
        assert_eq!(CpuMeter::at(&root.0).unwrap().processors(), 2);
    }

    #[test]
    fn the_first_version_of_groups_is_read_as_well() {
        let root = Root::new(
            "v1",
            &[
                ("proc/self/cgroup", "5:cpu,cpuacct:/docker/1\n3:memory:/x\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
                ("sys/fs/cgroup/cpuacct/cpuacct.usage", "0"),
            ],
        );
        let load = steady(&root, "sys/fs/cgroup/cpuacct/cpuacct.usage", |n| format!("{}\n", n * 50_000_000));
        assert!((load - 0.25).abs() < 0.001, "{load}");
        assert_eq!(CpuMeter::at(&root.0).unwrap().processors(), 2);
    }

    #[test]
    fn without_a_limit_it_is_the_machines() {
        let root = Root::new(
            "machine",
            &[
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/cpu.stat", "usage_usec 0\n"),
                ("proc/stat", "cpu  0 0 0 0\n"),
            ],
        );
        // 6 of 10 ticks are busy; what was stolen is nobody's.
        let load = steady(&root, "proc/stat", |n| {
            format!("cpu  {} {n} {n} {} {n} 0 {n} {} 0 0\ncpu0 1 1\n", n * 3, n * 3, n * 7)
        });
        assert!((load - 0.6).abs() < 0.001, "{load}");
    }

    #[test]
    fn a_jump_is_seen_within_a_second() {
        let root = Root::new("jump", &[("proc/stat", "cpu  0 0 0 0\n")]);
        let mut meter = CpuMeter::at(&root.0).unwrap();
        let clock = ManualClock::new();
        let (mut busy, mut idle) = (0, 0);
        let mut tick = |meter: &mut CpuMeter, b: u64, i: u64| {
            (busy, idle) = (busy + b, idle + i);
            root.write("proc/stat", &format!("cpu  {busy} 0 0 {idle}\n"));
            meter.measure(clock.now()).unwrap();
            clock.advance(CPU_INTERVAL);
        };
        for _ in 0..20 {
            tick(&mut meter, 1, 9);
        }
        assert!((meter.load().get() - 0.1).abs() < 0.001);
        for _ in 0..3 {
            tick(&mut meter, 10, 0);
        }
        assert!(meter.load().get() > 0.8, "after 300 ms it is {}", meter.load().get());
    }

    #[test]
    fn nonsense_is_an_error_and_changes_nothing() {
        let root = Root::new("nonsense", &[("proc/stat", "intr 1 2 3\n")]);
        let mut meter = CpuMeter::at(&root.0).unwrap();
        assert!(meter.measure(Instant::now()).unwrap_err().message().contains("proc/stat"));
        assert_eq!(meter.load().get(), 0.0);
        assert!(CpuMeter::at(&root.0.join("nowhere")).is_err());
    }

    #[test]
    fn this_machines_load_can_be_read() {
        let mut meter = CpuMeter::new().unwrap();
        assert!(meter.processors() >= 1);
        meter.measure(Instant::now()).unwrap();
    }
}
