//! Processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use bowline_tests_support::{Process, admin_page, build, free_port, programs};

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
    /// Whose it is; production's if that is empty.
    pub tenant: &'static str,
    /// Settings over those of its configuration file, in the same form.
    pub settings: String,
    /// What else is in its environment.
    pub environment: Vec<(String, String)>,
    directory: PathBuf,
    registry: u16,
    process: Option<Process>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn build_all() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        build(&[
            ("bowline-registry", "bowline-registry"),
            ("bowline-gateway", "bowline-gateway"),
            ("shop-catalog", "catalog"),
            ("shop-inventory", "inventory"),
            ("shop-order", "order"),
            ("shop-interface", "shop"),
        ]);
    });
}

impl Instance {
    fn new(app: App, directory: &Path, registry: u16, index: usize) -> Self {
        let directory = directory.join(format!("{}-{index}", app.name()));
        std::fs::create_dir_all(&directory).unwrap();
        let port = if app == App::Registry { registry } else { free_port() };
        let (settings, environment) = (String::new(), Vec::new());
        Self {
            app,
            port,
            admin: free_port(),
            tenant: "",
            settings,
            environment,
            directory,
            registry,
            process: None,
        }
    }

    /// Where it keeps what is its own.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the process without waiting for it.
    pub fn start(&mut self) {
        let prefix = self.app.name().to_uppercase();
        let mut command = Command::new(programs().join(self.app.binary()));
        command
            .args(["--config", &self.app.config()])
            .current_dir(root())
            .env(format!("{prefix}__SERVICE__SERVER__LISTEN"), format!("127.0.0.1:{}", self.port))
            .env(format!("{prefix}__SERVICE__ADMIN__LISTEN"), format!("127.0.0.1:{}", self.admin))
            .env(format!("{prefix}__SERVICE__LIFECYCLE__PROPAGATION"), "500ms")
            .env("BOWLINE_TENANT", self.tenant)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if !self.settings.is_empty() {
            let file = self.directory.join("settings.yaml");
            std::fs::write(&file, &self.settings).unwrap();
            command.arg("--config").arg(file);
        }
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
        self.process = Some(Process::start(&mut command, self.directory.join("log")));
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) {
        self.process.as_mut().expect("it runs").ready(self.admin).await;
    }

    /// A page of the operators' port, if it answers.
    pub async fn admin_page(&self, path: &str) -> Option<(u16, String)> {
        admin_page(self.admin, path).await
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Ends it at once, as `kill -9` does.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill();
        process.ended().await;
    }

    /// Stops it where it stands: it keeps its connections and answers nothing.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").resume();
    }

    /// How much of the processors' time it has had since it started.
    pub fn processor_time(&self) -> Duration {
        self.process.as_ref().expect("it runs").processor_time()
    }

    /// How often a method was called, by its own count; 0 if it is gone.
    pub async fn calls(&self, method: &str) -> u64 {
        let page = self.admin_page("/metrics").await.map(|(_, page)| page).unwrap_or_default();
        sum(&page, "bowline_server_calls_total", &[&format!("method=\"{method}\"")]) as u64
    }

    /// The sum over all lines of a metric that have these labels; 0 where there is none.
    ///
    /// # Panics
    /// If it does not tell its metrics.
    pub async fn measured(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, page) = self.admin_page("/metrics").await.expect("it tells its metrics");
        sum(&page, name, labels)
    }

    /// Asks it to stop and waits until it has, in good order.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.terminate();
        let status = process.ended().await;
        assert!(status.success(), "{:?} stopped with {status}:\n{}", self.app, self.log());
    }

    /// Stops it and starts it again, until it is ready.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start();
        self.ready().await;
    }
}

fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let lines = page.lines().filter(is_it).filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
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
        Self::start_with(apps, |_| {}).await
    }

    /// As [`Fleet::start`], each instance with what `change` does to it before it starts.
    pub async fn start_with(apps: &[(App, usize)], change: impl Fn(&mut Instance)) -> Self {
        build_all();
        let directory = tempfile::tempdir().unwrap();
        let registry = free_port();
        let mut instances = vec![Instance::new(App::Registry, directory.path(), registry, 0)];
        for (app, count) in apps {
            for index in 0..*count {
                instances.push(Instance::new(*app, directory.path(), registry, index));
            }
        }
        for instance in &mut instances {
            change(instance);
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
