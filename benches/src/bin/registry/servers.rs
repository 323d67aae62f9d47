//! The servers, as processes.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::plain::Plain;

/// The longest a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Programs {
    pub(crate) ours: PathBuf,
    pub(crate) rnacos: PathBuf,
}

/// A server on ports of its own. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    _directory: TempDir,
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

impl Programs {
    /// Our node, alone.
    pub(crate) async fn ours(&self) -> Server {
        self.node(Value::Null).await
    }

    /// Our node, one of several.
    pub(crate) async fn node(&self, cluster: Value) -> Server {
        let server = self.start_node(cluster);
        server.answers("/v1/registry/node", |answer| answer.contains("\"serving\":true")).await;
        server
    }

    /// The same, without waiting for it.
    pub(crate) fn start_node(&self, cluster: Value) -> Server {
        let (http, grpc, directory) = (free(), free(), TempDir::new().expect("a directory"));
        let mut config = json!({
            "service": {"server": {"listen": http, "max_connections": 15_000}, "log": {"level": "warn"}},
            "registry": {"limits": {"instances": 300_000}},
            "nacos": {"listen": grpc, "connections": 15_000, "instances_per_connection": 100_000},
        });
        if !cluster.is_null() {
            config["cluster"] = cluster;
        }
        let file = directory.path().join("registry.yaml");
        fs::write(&file, config.to_string()).expect("a configuration");
        let mut command = Command::new(&self.ours);
        command.arg("--config").arg(file);
        Server::start(command, http, grpc, directory)
    }

    /// r-nacos, alone.
    pub(crate) async fn rnacos(&self) -> Server {
        let (http, grpc, console, directory) = (free(), free(), free(), TempDir::new().expect("a directory"));
        let mut command = Command::new(&self.rnacos);
        command.env("RNACOS_HTTP_PORT", http.port().to_string());
        command.env("RNACOS_GRPC_PORT", grpc.port().to_string());
        command.env("RNACOS_HTTP_CONSOLE_PORT", console.port().to_string());
        command.env("RNACOS_DATA_DIR", directory.path()).env("RNACOS_CONFIG_DB_DIR", directory.path());
        command.env("RUST_LOG", "warn");
        let server = Server::start(command, http, grpc, directory);
        server.answers("/health", |answer| answer.contains("success")).await;
        server
    }
}

impl Server {
    fn start(mut command: Command, http: SocketAddr, grpc: SocketAddr, directory: TempDir) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir(directory.path());
        Self { child: command.spawn().expect("the server's program"), http, grpc, _directory: directory }
    }

    /// Waits until a page says something.
    pub(crate) async fn answers(&self, path: &str, wanted: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(mut http) = Plain::try_connect(self.http).await
                && let Some(answer) = http.try_call("GET", path, "").await
                && wanted(&answer)
            {
                return;
            }
            assert!(Instant::now() < end, "no answer of {path}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The processor time it has used, of all threads.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("its processor time");
        // After the name, which may hold spaces: the 14th and 15th field, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks = |n: usize| fields[n].parse::<u64>().expect("a number");
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its memory");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
