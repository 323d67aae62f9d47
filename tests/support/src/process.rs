//! Programs of the workspace as processes, which end with the test at the latest.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Authority, Http};

/// How long a process may take to start, to say something or to stop: much, for the machine may be slow and have other work.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where Cargo puts programs: beside this test's own.
pub fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release")).unwrap().to_path_buf()
}

/// Builds programs, each named by its package and itself, if a source is newer: for a test Cargo builds those of other
/// packages only when it tests them too. Those that it did build are taken: for a few packages by themselves it chooses
/// other features and builds nearly everything anew.
pub fn build(wanted: &[(&str, &str)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let changed = ["apps", "crates", "examples"].iter().filter_map(|part| newest(&root.join(part))).max();
    let old = |(_, program): &&(&str, &str)| modified(&programs().join(program)) <= changed;
    let packages: Vec<_> = wanted.iter().filter(old).map(|(package, _)| package).collect();
    if packages.is_empty() {
        return;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked"]).current_dir(root);
    for package in &packages {
        cargo.args(["--package", package]);
    }
    if programs().ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "{packages:?} do not build");
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// When the newest file below a directory was changed, tests apart: no program is made of them.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let sources = entries.filter(|path| !path.ends_with("tests"));
    sources.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}

/// A port that is free. Below those that the kernel gives to outgoing connections (32768 and up), of which there are many
/// here: one of them could take the port before its process does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 4_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A page of the operators' port, if it answers.
pub async fn admin_page(at: impl Into<Authority>, path: &str) -> Option<(u16, String)> {
    let mut http = Http::try_connect(at).await?;
    let answer = http.try_call("GET", path, &[], "").await?;
    Some((answer.status, answer.text()))
}

/// A process whose output goes to a file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it. Standard output and standard error are appended to `log`.
    #[track_caller]
    pub fn start(command: &mut Command, log: impl Into<PathBuf>) -> Self {
        let log = log.into();
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let command = command
            // A backtrace for every error would be most of what a debug build does under load.
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log }
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its operators' port says that it is ready.
    pub async fn ready(&mut self, admin: impl Into<Authority>) {
        let admin = admin.into();
        let ready = tokio::time::timeout(PATIENCE, async {
            while admin_page(admin.clone(), "/health/ready").await.is_none_or(|(status, _)| status != 200) {
                self.still_runs();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let ready = ready.await.is_ok();
        assert!(ready, "it was not ready in {PATIENCE:?}:\n{}", self.log());
    }

    /// Waits until it has written `text`.
    pub async fn says(&mut self, text: &str) {
        self.says_times(text, 1).await;
    }

    /// Waits until it has written `text` so many times.
    pub async fn says_times(&mut self, text: &str, times: usize) {
        let said = tokio::time::timeout(PATIENCE, async {
            while self.log().matches(text).count() < times {
                self.still_runs();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let said = said.await.is_ok();
        assert!(said, "it did not say `{text}` {times} times in {PATIENCE:?}:\n{}", self.log());
    }

    fn still_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended ({status}):\n{}", self.log());
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// What the end of its terminal does.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops it without ending it, as a machine that hangs.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// How much of the processors' time it has had since it started, to a hundredth of a second.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The second field is a name in brackets; 14 and 15 are the time as user and in the kernel (proc(5)).
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let ended = ended.await.ok();
        ended.unwrap_or_else(|| panic!("it did not end in {PATIENCE:?}:\n{}", self.log()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
