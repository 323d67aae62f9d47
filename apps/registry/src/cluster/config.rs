//! How a node is one of several: its settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bowline_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a node is one of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The cluster's name. Nodes of different clusters do not speak to each other. `registry`.
    #[serde(default = "registry")]
    pub name: String,
    /// The node's name. No two nodes have the same, and it stays the same when the node starts again.
    pub node: String,
    /// The node's zone.
    #[serde(default)]
    pub zone: String,
    /// Where it listens for other nodes, over UDP and TCP.
    pub listen: SocketAddr,
    /// Where others reach it, if that is another address. Has to be set where it listens at all addresses.
    #[serde(default)]
    pub advertise: Option<SocketAddr>,
    /// Where to find some others, `HOST:PORT` each: names are looked up again from time to time.
    #[serde(default)]
    pub seeds: Vec<String>,
    /// How long it waits after its start for another node to tell what there is, before it serves what it knows itself. 5 s.
    #[serde(default = "five_seconds", with = "bowline_config::duration")]
    pub sync_within: Duration,
    /// Certificates by which nodes know each other; without, they talk in the clear.
    #[serde(default)]
    pub tls: Option<ClusterTls>,
}

/// Certificates by which nodes know each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTls {
    /// This node's chain, leaf first, for both sides of a stream.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority of all nodes' certificates.
    pub ca: PathBuf,
    /// The name that every node's certificate has; each one's address if there is none.
    #[serde(default)]
    pub server_name: Option<String>,
}

impl ClusterConfig {
    /// Where others reach it: told by gossip, and called as it is.
    pub(crate) fn reached_at(&self) -> SocketAddr {
        self.advertise.unwrap_or(self.listen)
    }

    /// Checks that others can call this node: it would start otherwise, and be alone without a word.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the setting and the mend.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::invalid_argument(format!("the registry's settings: {what}")));
        let listen = self.listen;
        if listen.port() == 0 {
            return wrong(format!(
                "`cluster.listen` is {listen}, and UDP and TCP would each get a port that no other node knows; give it a port"
            ));
        }
        let at = self.reached_at();
        if !at.ip().is_unspecified() && at.port() != 0 {
            return Ok(());
        }
        let setting = if self.advertise.is_some() { "advertise" } else { "listen" };
        wrong(format!(
            "other nodes would be told to call this one at {at}, of `cluster.{setting}`, which is no address to call; set \
             `cluster.advertise` to the address and port at which they reach it"
        ))
    }
}

fn registry() -> String {
    "registry".into()
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, advertise: Option<&str>) -> Result<()> {
        let config = serde_json::json!({"node": "n", "listen": listen, "advertise": advertise});
        serde_json::from_value::<ClusterConfig>(config).unwrap().check()
    }

    #[test]
    fn a_node_that_others_could_not_call_is_refused_with_the_mend() {
        check("10.0.0.1:7172", None).unwrap();
        check("0.0.0.0:7172", Some("10.0.0.1:7172")).unwrap();
        check("[::]:7172", Some("[2001:db8::1]:7172")).unwrap();
        for (listen, advertise, named) in [
            ("0.0.0.0:7172", None, "`cluster.listen`"),
            ("[::]:7172", None, "`cluster.listen`"),
            ("10.0.0.1:7172", Some("0.0.0.0:7172"), "`cluster.advertise`"),
            ("0.0.0.0:7172", Some("10.0.0.1:0"), "`cluster.advertise`"),
        ] {
            let said = check(listen, advertise).unwrap_err();
            assert!(said.message().contains(named), "{said}");
            assert!(said.message().contains("set `cluster.advertise` to"), "{said}");
        }
        for advertise in [None, Some("10.0.0.1:7172")] {
            let said = check("10.0.0.1:0", advertise).unwrap_err();
            assert!(said.message().contains("`cluster.listen`") && said.message().contains("port"), "{said}");
        }
    }
}
