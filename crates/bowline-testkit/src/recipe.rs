//! How each server is started, and how it is seen that it answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use bowline_core::{Error, Result, WrapErr};

/// A kind of server.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    /// The Debian packages, each with a file that tells whether it is there.
    pub(crate) packages: &'static [(&'static str, &'static str)],
    /// How many ports it listens on; the first one is for clients.
    pub(crate) ports: usize,
    /// Prepares the directory, which may hold data already, and makes the command.
    pub(crate) command: fn(&Path, &[u16]) -> Result<Command>,
    /// What is sent to the first port, and what the answer contains once it is ready.
    pub(crate) question: &'static str,
    pub(crate) answer: &'static str,
    /// Asks over TLS, and trusts what the authority in this file below the directory says.
    pub(crate) ca: Option<&'static str>,
}

pub(crate) const ETCD: Recipe = Recipe {
    name: "etcd",
    packages: &[("etcd-server", "/usr/bin/etcd")],
    ports: 2,
    command: |data, ports| {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1]));
        let mut command = Command::new("/usr/bin/etcd");
        command.args(["--name", "n1", "--data-dir"]).arg(data.join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("n1={peer}")]);
        Ok(command)
    },
    question: "GET /health HTTP/1.0\r\n\r\n",
    answer: "\"health\":\"true\"",
    ca: None,
};

const JARS: &str = "/usr/share/java";

pub(crate) const ZOOKEEPER: Recipe = Recipe {
    name: "zookeeper",
    packages: &[("zookeeper", "/usr/share/java/zookeeper.jar"), ("default-jre-headless", "/usr/bin/java")],
    ports: 1,
    command: |data, ports| {
        let write = |name: &str, text: String| {
            std::fs::write(data.join(name), text).with_context(|| format!("writing ZooKeeper's {name}"))
        };
        let log = "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
                   log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
                   log4j.appender.out.layout.ConversionPattern=%d %p %c: %m%n\n";
        write("log4j.properties", log.into())?;
        let settings = format!(
            "tickTime=500\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
             maxClientCnxns=0\n",
            data.join("zookeeper").display(),
            ports[0]
        );
        write("zoo.cfg", settings)?;
        // The jar names those it needs, but for what binds the log.
        let jars = ["zookeeper", "slf4j-log4j12", "log4j-1.2"].map(|jar| format!("{JARS}/{jar}.jar"));
        let mut command = Command::new("/usr/bin/java");
        command.args(["-Xmx128m", "-cp", &format!("{}:{}", data.display(), jars.join(":"))]);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(data.join("zoo.cfg"));
        Ok(command)
    },
    question: "srvr",
    answer: "Mode: standalone",
    ca: None,
};

/// What `cargo xtask tools` built.
pub(crate) fn tool(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this test is")?;
    let target = own.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
    let path = target.and_then(Path::parent).unwrap_or(Path::new("target")).join("tools/bin").join(name);
    if path.exists() {
        return Ok(path);
    }
    let path = path.display();
    Err(Error::failed_precondition(format!("{name} is not at {path}; run: cargo xtask tools")))
}

/// Whether a recipe's program is there that no package brings.
pub(crate) fn has_tool(name: &str) -> bool {
    tool(name).is_ok()
}

fn run_consul(data: &Path, ports: &[u16]) -> Result<Command> {
    let mut command = Command::new(tool("consul")?);
    command.args(["agent", "-server", "-bootstrap-expect=1", "-bind=127.0.0.1", "-client=127.0.0.1"]);
    command.args(["-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1", "-log-level=warn", "-node=n1"]);
    command.arg(format!("-http-port={}", ports[0])).arg(format!("-server-port={}", ports[1]));
    command.arg(format!("-serf-lan-port={}", ports[2])).arg("-data-dir").arg(data.join("consul"));
    // Production's timing; by default elections take some seconds.
    command.args(["-hcl", "performance { raft_multiplier = 1 } disable_update_check = true"]);
    Ok(command)
}

pub(crate) const CONSUL: Recipe = Recipe {
    name: "consul",
    packages: &[],
    ports: 3,
    command: run_consul,
    question: "GET /v1/health/service/consul?passing HTTP/1.0\r\n\r\n",
    answer: "\"ServiceID\":\"\"",
    ca: None,
};

/// The token that may do everything, of a Consul that asks for one.
pub(crate) const CONSUL_TOKEN: &str = "5e3f0a52-0f0c-4c5e-9a55-0b8f2f3f6c11";

pub(crate) const CONSUL_WITH_TOKEN: Recipe = Recipe {
    command: |data, ports| {
        let mut command = run_consul(data, ports)?;
        let tokens = format!("initial_management = \"{CONSUL_TOKEN}\" agent = \"{CONSUL_TOKEN}\"");
        let lists = format!("acl {{ enabled = true default_policy = \"deny\" tokens {{ {tokens} }} }}");
        command.args(["-hcl", &lists]);
        Ok(command)
    },
    question: "GET /v1/health/service/consul?passing&token=5e3f0a52-0f0c-4c5e-9a55-0b8f2f3f6c11 HTTP/1.0\r\n\r\n",
    ..CONSUL
};

pub(crate) const EUREKA: Recipe = Recipe {
    name: "eureka",
    packages: &[("default-jre-headless", "/usr/bin/java")],
    ports: 1,
    command: |_, ports| {
        let mut command = Command::new("/usr/bin/java");
        // It starts often and does not run for long.
        command.args(["-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-jar"]);
        command.arg(tool("eureka-server.jar")?).arg(format!("--server.port={}", ports[0]));
        Ok(command)
    },
    question: "GET /eureka/apps HTTP/1.0\r\nAccept: application/json\r\n\r\n",
    answer: "apps__hashcode",
    ca: None,
};

/// r-nacos is no Debian package: it is looked for on `PATH`.
pub(crate) const RNACOS: Recipe = Recipe {
    name: "rnacos",
    packages: &[],
    ports: 3,
    command: |data, ports| {
        let program = rnacos().ok_or_else(|| {
            Error::failed_precondition(
                "rnacos is not on PATH; run the tests by `cargo xtask test`, or: cargo install rnacos --locked",
            )
        })?;
        let mut command = Command::new(program);
        command.env("RNACOS_HTTP_PORT", ports[0].to_string()).env("RNACOS_GRPC_PORT", ports[1].to_string());
        command.env("RNACOS_HTTP_CONSOLE_PORT", ports[2].to_string());
        let data = data.join("rnacos");
        command.env("RNACOS_DATA_DIR", &data).env("RNACOS_CONFIG_DB_DIR", &data);
        Ok(command)
    },
    question: "GET /health HTTP/1.0\r\n\r\n",
    answer: "success",
    ca: None,
};

/// Where r-nacos is.
pub(crate) fn rnacos() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("rnacos")).find(|program| program.is_file())
}
