//! Processes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use bowline_tests_support::Http;

/// An application of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are called what they are")]
pub enum App {
    Registry,
    Catalog,
    Inventory,
    Order,
    Shop,
    Gateway,
}

impl App {
    fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Catalog => "catalog",
            Self::Inventory => "inventory",
            Self::Order => "order",
            Self::Shop => "shop",
            Self::Gateway => "gateway",
        }
    }

    fn binary(self) -> &'static str {
        match self {
            Self::Registry => "bowline-registry",
            Self::Gateway => "bowline-gateway",
            other => other.name(),
        }
    }

    fn config(self) -> String {
        match self {
            Self::Registry | Self::Gateway => format!("apps/{0}/configs/{0}.yaml", self.name()),
            other => format!("examples/shop/{0}/configs/{0}.yaml", other.name()),
        }
    }
}

/// One process: started, stopped and started again at the same ports.
#[derive(Debug)]
pub struct Instance {
    /// What it runs.
    pub app: App,
    /// The port for requests.
    pub port: u16,
    /// The operators' port.
    pub admin: u16,
    directory: PathBuf,
    registry: u16,
    child: Option<Child>,
}

/// How long a process may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where Cargo puts programs: beside this test's own.
fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release")).unwrap().to_path_buf()
}

/// Programs of other packages are not built for a test by themselves.
fn build() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--locked"]).current_dir(root());
        for package in [
            "bowline-registry",
            "bowline-gateway",
            "shop-catalog",
            "shop-inventory",
            "shop-order",
            "shop-interface",
        ] {
            cargo.args(["--package", package]);
        }
        if programs().ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the shop does not build");
    });
}

/// A port that is free. Below those that the kernel gives to outgoing connections (32768 and up), of which there are many
/// here: one of them could take the port before its process does.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 4_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Instance {
    fn new(app: App, directory: &Path, registry: u16, index: usize) -> Self {
        let directory = directory.join(format!("{}-{index}", app.name()));
        std::fs::create_dir_all(&directory).unwrap();
        let port = if app == App::Registry { registry } else { free_port() };
        Self { app, port, admin: free_port(), directory, registry, child: None }
    }

    /// Starts the process without waiting for it.
    pub fn start(&mut self) {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.directory.join("log")).unwrap();
        let prefix = self.app.name().to_uppercase();
        let mut command = Command::new(programs().join(self.app.binary()));
        command
            .args(["--config", &self.app.config()])
            .current_dir(root())
            .env(format!("{prefix}__SERVICE__SERVER__LISTEN"), format!("127.0.0.1:{}", self.port))
            .env(format!("{prefix}__SERVICE__ADMIN__LISTEN"), format!("127.0.0.1:{}", self.admin))
            .env(format!("{prefix}__SERVICE__LIFECYCLE__PROPAGATION"), "500ms")
            // A backtrace for every error would be most of what a debug build does under load.
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if self.app != App::Registry {
            command
                .env(
                    format!("{prefix}__SERVICE__REGISTRY__TARGET"),
                    format!("http://127.0.0.1:{}", self.registry),
                )
                .env(format!("{prefix}__SERVICE__REGISTRY__SNAPSHOTS"), self.directory.join("registry"));
        }
        if matches!(self.app, App::Catalog | App::Inventory | App::Order) {
            command.env(format!("{prefix}__DATABASE__PATH"), self.directory.join("data.db"));
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) {
        let ready = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(child) = &mut self.child
                    && let Some(status) = child.try_wait().unwrap()
                {
                    panic!("{:?} ended while starting ({status}):\n{}", self.app, self.log());
                }
                if self.admin_page("/health/ready").await.is_some_and(|(status, _)| status == 200) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        if ready.await.is_err() {
            panic!("{:?} was not ready in {PATIENCE:?}:\n{}", self.app, self.log());
        }
    }

    /// A page of the operators' port, if it answers.
    pub async fn admin_page(&self, path: &str) -> Option<(u16, String)> {
        let mut http = Http::try_connect(self.admin).await?;
        let answer = http.try_call("GET", path, &[], "").await?;
        Some((answer.status, answer.text()))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).unwrap()));
        kill_process(pid.expect("it runs"), signal).unwrap();
    }

    /// Ends it at once, as `kill -9` does.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Asks it to stop and waits until it has, in good order.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(status.success(), "{:?} stopped with {status}:\n{}", self.app, self.log());
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let ended = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let status = ended.await.expect("it did not end");
        self.child = None;
        status
    }

    /// Stops it and starts it again, until it is ready.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start();
        self.ready().await;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Running processes. Dropping it ends them all.
#[derive(Debug)]
pub struct Fleet {
    /// In the order of their start.
    pub instances: Vec<Instance>,
    _directory: tempfile::TempDir,
}

impl Fleet {
    /// Starts a registry and each of these applications as often as it is named, until all are ready and have had time to
    /// find each other.
    pub async fn start(apps: &[(App, usize)]) -> Self {
        build();
        let directory = tempfile::tempdir().unwrap();
        let registry = free_port();
        let mut instances = vec![Instance::new(App::Registry, directory.path(), registry, 0)];
        for (app, count) in apps {
            for index in 0..*count {
                instances.push(Instance::new(*app, directory.path(), registry, index));
            }
        }
        for instance in &mut instances {
            instance.start();
        }
        for instance in &mut instances {
            instance.ready().await;
        }
        Self { instances, _directory: directory }
    }

    /// Every application once, the gateway in front.
    pub async fn shop() -> Self {
        use App::{Catalog, Gateway, Inventory, Order, Shop};
        Self::start(&[(Catalog, 1), (Inventory, 1), (Order, 1), (Shop, 1), (Gateway, 1)]).await
    }

    /// The instances of an application.
    pub fn all(&self, app: App) -> Vec<usize> {
        (0..self.instances.len()).filter(|i| self.instances[*i].app == app).collect()
    }

    /// The first instance of an application.
    pub fn one(&self, app: App) -> &Instance {
        &self.instances[self.all(app)[0]]
    }

    /// A target of all instances of an application, by address.
    pub fn target(&self, app: App) -> String {
        let ports: Vec<_> =
            self.all(app).iter().map(|i| format!("127.0.0.1:{}", self.instances[*i].port)).collect();
        format!("static:///{}", ports.join(","))
    }
}
