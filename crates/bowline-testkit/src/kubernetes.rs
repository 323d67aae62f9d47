//! Kubernetes: its API server, and the etcd behind it.

use std::path::{Path, PathBuf};
use std::process::Command;

use bowline_core::{Result, WrapErr};

use crate::recipe::{ETCD, Recipe, tool};
use crate::{Server, tls};

const KUBERNETES: Recipe = Recipe {
    name: "kube-apiserver",
    packages: &[],
    ports: 1,
    command,
    question: "GET /readyz HTTP/1.0\r\n\r\n",
    answer: "\r\n\r\nok",
    ca: Some("ca.pem"),
};

const WITHOUT_CACHE: Recipe = Recipe {
    command: |data, ports| {
        let mut command = command(data, ports)?;
        command.arg("--watch-cache=false");
        Ok(command)
    },
    ..KUBERNETES
};

fn command(data: &Path, ports: &[u16]) -> Result<Command> {
    let program = tool("kube-apiserver")?;
    let file = |name: &str| data.join(name).display().to_string();
    // Who was trusted before a restart is trusted after it.
    if !data.join("ca.pem").exists() {
        tls::write_certificates(data, "certified", "system:masters")?;
        let tokens = format!("{},admin,1,\"system:masters\"\n", Kubernetes::ADMIN);
        std::fs::write(data.join("tokens.csv"), tokens).context("writing Kubernetes' tokens")?;
    }
    let mut command = Command::new(program);
    command.arg(format!("--etcd-servers=http://127.0.0.1:{}", ports[1]));
    command.arg("--bind-address=127.0.0.1").arg(format!("--secure-port={}", ports[0]));
    // Nobody comes by this address; loopback would be refused.
    command.args(["--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none"]);
    command.arg(format!("--tls-cert-file={}", file("server.pem")));
    command.arg(format!("--tls-private-key-file={}", file("server.key")));
    command.arg(format!("--client-ca-file={}", file("ca.pem")));
    command.arg(format!("--service-account-key-file={}", file("server.pem")));
    command.arg(format!("--service-account-signing-key-file={}", file("server.key")));
    command.arg("--service-account-issuer=https://kubernetes.default.svc");
    command.arg("--authorization-mode=RBAC").arg(format!("--token-auth-file={}", file("tokens.csv")));
    command.args(["--service-cluster-ip-range=10.96.0.0/24", "--disable-admission-plugins=ServiceAccount"]);
    Ok(command)
}

/// An API server with an etcd of its own. There are no controllers, no nodes and no pods: what they would write, tests do.
#[derive(Debug)]
pub struct Kubernetes {
    // Ends before the etcd does.
    api: Server,
    etcd: Server,
}

impl Kubernetes {
    /// The token of who may do everything.
    pub const ADMIN: &str = "admins-token";

    pub(crate) async fn run() -> Result<Self> {
        Self::run_as(KUBERNETES).await
    }

    pub(crate) async fn run_without_cache() -> Result<Self> {
        Self::run_as(WITHOUT_CACHE).await
    }

    async fn run_as(recipe: Recipe) -> Result<Self> {
        // Whether it is built is known before anything starts.
        tool(recipe.name)?;
        let etcd = Server::run(ETCD).await?;
        let api = Server::run_beside(recipe, &[etcd.port()]).await?;
        Ok(Self { api, etcd })
    }

    /// `127.0.0.1:PORT` of the API server, which speaks TLS.
    pub fn address(&self) -> String {
        self.api.address()
    }

    /// The port of the API server.
    pub fn port(&self) -> u16 {
        self.api.port()
    }

    /// The port of the etcd behind it.
    pub fn etcd_port(&self) -> u16 {
        self.etcd.port()
    }

    /// The authority of the API server's certificate, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.api.directory().join("ca.pem")
    }

    /// The certificate and the key of a client who may do everything, in PEM.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.api.directory().join("client.pem"), self.api.directory().join("client.key"))
    }

    /// What the API server wrote, of all its runs.
    pub fn log(&self) -> String {
        self.api.log()
    }

    /// Starts both again, after [`Kubernetes::kill`], as [`Server::start`] does.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start(&mut self) -> Result<()> {
        self.etcd.start().await?;
        self.api.start().await
    }

    /// Ends both at once. The data stays.
    ///
    /// # Errors
    /// If the system does not let it be.
    pub async fn kill(&mut self) -> Result<()> {
        self.api.kill().await?;
        self.etcd.kill().await
    }

    /// Removes the data. The next start is the first one, but for certificates and tokens, which stay.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` while it runs; if the data cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        self.etcd.wipe()
    }

    /// Stops the API server without ending it.
    ///
    /// # Errors
    /// As [`Server::pause`].
    pub async fn pause(&self) -> Result<()> {
        self.api.pause().await
    }

    /// Lets it go on after [`Kubernetes::pause`].
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if it does not run.
    pub fn resume(&self) -> Result<()> {
        self.api.resume()
    }
}
