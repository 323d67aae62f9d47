//! A project in a directory of its own, whose applications are registry nodes at free ports.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, outside of test functions"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline_tests_support::{PATIENCE, Process, build, free_port, programs};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The program that every application is.
static REGISTRY: LazyLock<PathBuf> = LazyLock::new(|| {
    build(&[("bowline-registry", "bowline-registry")]);
    programs().join("bowline-registry")
});

/// An application of a project.
pub struct App {
    pub name: &'static str,
    pub port: u16,
    pub admin: u16,
}

impl App {
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A line of `bowline ps`.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub address: String,
    pub status: String,
    pub pid: i32,
    pub restarts: u32,
}

/// A project. Dropping it ends all its processes, the supervisor among them.
pub struct Project {
    pub apps: Vec<App>,
    directory: TempDir,
    root: PathBuf,
    commands: AtomicUsize,
}

impl Project {
    /// A project of these applications, which need no building.
    pub fn new(names: &[&'static str]) -> Self {
        Self::with_build(names, &[])
    }

    /// A project of these applications with a build command.
    pub fn with_build(names: &[&'static str], build: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let programs = root.join("target/debug");
        std::fs::create_dir_all(&programs).unwrap();
        std::os::unix::fs::symlink(&*REGISTRY, programs.join("bowline-registry")).unwrap();
        let mut file = format!("[project]\nname = \"harbour\"\nbuild = {build:?}\n");
        let mut apps = Vec::new();
        for name in names {
            let app = App { name, port: free_port(), admin: free_port() };
            std::fs::write(root.join(format!("{name}.yaml")), config(&app)).unwrap();
            file.push_str(&declaration(&app));
            apps.push(app);
        }
        std::fs::write(root.join("bowline.toml"), file).unwrap();
        Self { apps, directory, root, commands: AtomicUsize::new(0) }
    }

    /// Adds a line to the last application's declaration.
    pub fn declare(&self, line: &str) {
        let file = self.root.join("bowline.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}{line}\n")).unwrap();
    }

    /// Makes an application listen for operators at another port than its declaration says, from its next start on: so
    /// nobody sees it ready. Returns its configuration as it was.
    pub fn hide(&self, index: usize) -> String {
        let app = &self.apps[index];
        let file = self.root.join(format!("{}.yaml", app.name));
        let good = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, good.replace(&format!("127.0.0.1:{}", app.admin), "127.0.0.1:0")).unwrap();
        good
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Starts `bowline` in the project's directory.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.args(arguments).current_dir(&self.root);
        for variable in ["CARGO_TARGET_DIR", "BOWLINE_REGISTRY", "BOWLINE_ENV", "BOWLINE_CONFIG"] {
            command.env_remove(variable);
        }
        Process::start(&mut command, self.directory.path().join(format!("said-{number}")))
    }

    /// Runs `bowline` to its end: whether it succeeded, and what it said.
    pub async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut process = self.start(arguments);
        let status = process.ended().await;
        (status.success(), process.log())
    }

    /// Runs `bowline`, which succeeds.
    pub async fn succeed(&self, arguments: &[&str]) -> String {
        let (success, said) = self.run(arguments).await;
        assert!(success, "{arguments:?}: {said}");
        said
    }

    /// Runs `bowline`, which fails with one error, and returns that.
    pub async fn fail(&self, arguments: &[&str]) -> String {
        let (success, said) = self.run(arguments).await;
        assert!(!success, "{arguments:?}: {said}");
        one_error(&said)
    }

    /// What `bowline ps` shows.
    pub async fn ps(&self) -> Vec<Row> {
        let said = self.succeed(&["ps"]).await;
        let rows = said.lines().skip(1).map(|line| {
            let cells: Vec<_> = line.split_whitespace().collect();
            let [name, _kind, address, status, rest @ ..] = &cells[..] else { panic!("no row: {line}") };
            let (pid, restarts) = match rest {
                [pid, restarts] => (pid.parse().unwrap(), restarts),
                [restarts] => (0, restarts),
                _ => panic!("no row: {line}"),
            };
            let restarts = restarts.parse().unwrap();
            let [name, address, status] = [name, address, status].map(|cell| (*cell).to_owned());
            Row { name, address, status, pid, restarts }
        });
        rows.collect()
    }

    /// Waits until no process of the project is left, and its ports are free.
    pub async fn is_gone(&self) {
        let gone = tokio::time::timeout(PATIENCE, async {
            while !processes(&self.root).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let gone = gone.await.is_ok();
        assert!(gone, "processes are left: {:?}", processes(&self.root));
        for app in &self.apps {
            for port in [app.port, app.admin] {
                assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "{}: {port} is taken", app.name);
            }
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // A supervisor starts again what ends: all of them, until none is left. A dead one is gone in a moment.
        for _ in 0..10_000 {
            let left = processes(&self.root);
            if left.is_empty() {
                return;
            }
            left.into_iter().for_each(kill);
            std::thread::yield_now();
        }
    }
}

/// Ends a process at once.
pub fn kill(pid: i32) {
    // Gone already is as good.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// Tells a process that its terminal is gone.
pub fn hang_up(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
}

/// The processes that run in a directory, dead ones that nobody has waited for apart.
pub fn processes(root: &Path) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (std::fs::read_link(entry.path().join("cwd")).ok()? == root).then_some(pid)
    });
    all.collect()
}

/// The only error among what a command said.
#[track_caller]
pub fn one_error(said: &str) -> String {
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(said.trim_end().ends_with(errors[0]), "the error comes last: {said}");
    errors[0].to_owned()
}

fn config(app: &App) -> String {
    format!(
        "service:\n  \
           server: {{ listen: \"127.0.0.1:{}\" }}\n  \
           admin: {{ listen: \"127.0.0.1:{}\" }}\n  \
           lifecycle: {{ propagation: 10ms }}\n\
         registry: {{}}\n",
        app.port, app.admin
    )
}

fn declaration(app: &App) -> String {
    format!(
        "[[app]]\nname = {0:?}\nkind = \"registry\"\npackage = \"bowline-registry\"\nargs = [\"--config\", \"{0}.yaml\"]\n\
         address = \"{1}\"\nready = \"http://127.0.0.1:{2}/health/ready\"\n",
        app.name,
        app.address(),
        app.admin
    )
}
