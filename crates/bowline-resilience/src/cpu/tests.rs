//! The meter on files as the kernel writes them.

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
    let load =
        steady(&root, "sys/fs/cgroup/kube/cpu.stat", |n| format!("usage_usec {}\nuser_usec 1\n", n * 40_000));
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
fn a_limit_that_is_changed_counts_ten_seconds_later() {
    let (max, stat) = ("sys/fs/cgroup/cpu.max", "sys/fs/cgroup/cpu.stat");
    let root = Root::new("changed", &[("proc/self/cgroup", "0::/\n"), (max, "200000 100000"), (stat, "")]);
    let mut meter = CpuMeter::at(&root.0).unwrap();
    let clock = ManualClock::new();
    let mut used = 0;
    let mut pass = |meter: &mut CpuMeter, times: u32| {
        for _ in 0..times {
            root.write(stat, &format!("usage_usec {used}\n"));
            meter.measure(clock.now()).unwrap();
            used += 50_000;
            clock.advance(CPU_INTERVAL);
        }
        meter.load().get()
    };
    // Half of a processor, of two.
    assert!((pass(&mut meter, 50) - 0.25).abs() < 0.001);
    root.write(max, "100000 100000");
    assert!((pass(&mut meter, 50) - 0.25).abs() < 0.001);
    assert!((pass(&mut meter, 20) - 0.5).abs() < 0.001);
    assert_eq!(meter.processors(), 1);
    // Without a limit it is the machine's load, from its next measurement on.
    root.write(max, "max 100000");
    root.write("proc/stat", "cpu  0 0 0 100\ncpu0 0 0 0 100\n");
    assert!((pass(&mut meter, 100) - 0.5).abs() < 0.001);
    root.write("proc/stat", "cpu  100 0 0 100\ncpu0 100 0 0 100\n");
    assert!(pass(&mut meter, 1) > 0.7);
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
