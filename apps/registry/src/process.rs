//! The node as an application: its configuration, and its life.

use bowline::prelude::*;
use bowline::{ServerSettings, Settings};
use bowline_core::{Endpoint, Scheme};
use serde::{Deserialize, Serialize};

use crate::access::{Access, reachable};
use crate::{Cluster, ClusterConfig, Config, Dns, DnsConfig, Nacos, NacosConfig, Node};

/// The configuration of the process.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessConfig {
    /// What every service has.
    pub service: Settings,
    /// The registry's own.
    #[serde(default)]
    pub registry: Config,
    /// Names for consumers that know only DNS; none are served without.
    #[serde(default)]
    pub dns: Option<DnsConfig>,
    /// The gRPC of Nacos 2 and 3; only its HTTP without.
    #[serde(default)]
    pub nacos: Option<NacosConfig>,
    /// The node's place among others; it is alone without.
    #[serde(default)]
    pub cluster: Option<ClusterConfig>,
}

/// The flag that lets a node listen where others can reach it though it asks nobody who they are.
pub const INSECURE: &str = "--insecure";

impl ProcessConfig {
    /// Refuses to listen where whoever comes by can change what services are told.
    fn check_reach(&self) -> Result<()> {
        let access = Access::new(&self.registry.access)?;
        let clients = [
            ("`service.server`", reachable(&self.service.server.listen)),
            ("`nacos`", self.nacos.as_ref().map(|nacos| nacos.listen)),
            ("`dns`", self.dns.as_ref().map(|dns| dns.listen)),
        ];
        for (what, at) in clients {
            if let Some(at) = at {
                access.check_listen(what, at)?;
            }
        }
        match self.cluster.as_ref().filter(|cluster| cluster.tls.is_none()) {
            Some(cluster) => access.check_reach("`cluster`", cluster.listen, "set `cluster.tls`"),
            None => Ok(()),
        }
    }
}

/// Where clients find a node: what it is told to advertise, else where it listens, and for all addresses that of the cluster.
/// `None` if that is nowhere in particular.
fn clients_at(server: &ServerSettings, cluster: &ClusterConfig) -> Option<Endpoint> {
    if let Some(at) = &server.advertise {
        return matches!(at.scheme(), Scheme::Http | Scheme::Https).then(|| at.clone());
    }
    let listen = reachable(&server.listen)?;
    let ip = match listen.ip().is_unspecified() {
        true => cluster.reached_at().ip(),
        false => listen.ip(),
    };
    let (host, port) = (ip.to_string(), listen.port());
    let at = if server.tls.is_some() { Endpoint::https(host, port) } else { Endpoint::http(host, port) };
    (!ip.is_unspecified() && port != 0).then_some(at)
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// If the configuration is wrong, or the address is taken.
pub async fn run(boot: Boot) -> Result<()> {
    let mut config: ProcessConfig = boot.config()?;
    config.registry.access.insecure |= boot.has(INSECURE);
    config.check_reach()?;
    let service = boot.service(&config.service, &config)?;
    let node = match &config.cluster {
        None => Node::new(config.registry.clone())?,
        Some(cluster) => Node::named(config.registry.clone(), &cluster.node, &cluster.zone)?,
    };
    node.tell(service.metrics());
    node.restore();
    let server =
        service.server()?.mount(node.service_def()).fallback(node.predecessors()).middleware(node.guard());
    let leases = node.clone();
    let mut app = service.serve(server).version(env!("CARGO_PKG_VERSION"));
    if let Some(dns) = config.dns {
        app = app.server(Dns::new(node.clone(), dns));
    }
    if let Some(nacos) = config.nacos {
        app = app.server(Nacos::new(&node, nacos)?);
    }
    if let Some(cluster) = config.cluster {
        let clients_at = clients_at(&config.service.server, &cluster);
        let cluster = Cluster::new(&node, cluster)?;
        app = app.server(match clients_at {
            Some(at) => cluster.clients_at(at),
            None => cluster,
        });
    }
    let serving = node.clone();
    app = app.warm_up("learning what there is", move |_| async move {
        serving.serves().await;
        Ok(())
    });
    let kept = node.clone();
    let ran = app
        .background("leases", move |cx| async move {
            // Ends with the context, which is how a background task is told to stop; watches must end for the server to drain.
            let _ = leases.run(&cx).await;
            node.close();
            Ok(())
        })
        .run()
        .await;
    // What clients said while the servers drained is to be known after a restart.
    kept.keep().await;
    ran
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(server: &str, cluster: &str) -> Option<String> {
        let server: ServerSettings = serde_json::from_str(server).unwrap();
        let cluster: ClusterConfig = serde_json::from_str(cluster).unwrap();
        clients_at(&server, &cluster).map(|at| at.to_string())
    }

    #[test]
    fn clients_find_a_node_where_it_says_or_where_it_listens() {
        let here = r#"{"node": "n", "listen": "10.0.0.1:7172"}"#;
        let all = r#"{"node": "n", "listen": "0.0.0.0:7172"}"#;
        let advertised = r#"{"node": "n", "listen": "0.0.0.0:7172", "advertise": "10.0.0.3:7172"}"#;
        let said = r#"{"listen": "0.0.0.0:7171", "advertise": "http://registry-1:80"}"#;
        assert_eq!(found(said, here).unwrap(), "http://registry-1:80");
        assert_eq!(found(r#"{"listen": "10.0.0.2:7171"}"#, here).unwrap(), "http://10.0.0.2:7171");
        assert_eq!(found(r#"{"listen": "0.0.0.0:7171"}"#, here).unwrap(), "http://10.0.0.1:7171");
        assert_eq!(found(r#"{"listen": "[::]:7171"}"#, advertised).unwrap(), "http://10.0.0.3:7171");
        let tls = r#"{"listen": "10.0.0.2:7171", "tls": {"certificate": "c", "key": "k"}}"#;
        assert_eq!(found(tls, here).unwrap(), "https://10.0.0.2:7171");
        for nowhere in ["0.0.0.0:7171", "127.0.0.1:0", "unix:/run/registry"] {
            assert_eq!(found(&format!(r#"{{"listen": "{nowhere}"}}"#), all), None, "{nowhere}");
        }
    }
}
