//! Where the API server is, and who asks it.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline_client::{ChannelOptions, ClientTls};
use bowline_core::{Endpoint, Error, Result, WrapErr};
use tempfile::TempDir;

use crate::kubeconfig::{Cluster, Kubeconfig, User};
use crate::options::Options;
use crate::token::Source;

/// Where a pod has what it needs.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The namespace where nobody says another one, as for kubectl.
const DEFAULT: &str = "default";

/// Where the API server is, and who asks it: by a pod's service account, or by a kubeconfig.
///
/// Certificates are read once. A token in a file is read again every minute.
#[derive(Clone)]
pub struct Access {
    server: Endpoint,
    /// What comes before `/api`: nothing, or a path that begins with a slash.
    pub(crate) prefix: String,
    tls: Option<ClientTls>,
    pub(crate) token: Source,
    pub(crate) namespace: String,
    pub(crate) is_pod: bool,
    /// Certificates that a kubeconfig has within itself.
    _files: Option<Arc<TempDir>>,
}

/// Without what may be a secret.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Access");
        shown.field("server", &self.server).field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Access {
    /// By the kubeconfig that the options name; else by what the variable `KUBECONFIG` names; else by the service account, in a
    /// pod; else by `~/.kube/config`.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if there is none of these, or one cannot be used.
    pub fn find(options: &Options) -> Result<Self> {
        Self::find_in(
            options,
            |name| std::env::var(name).ok().filter(|value| !value.is_empty()),
            Path::new(ACCOUNT),
        )
    }

    fn find_in(options: &Options, env: impl Fn(&str) -> Option<String>, account: &Path) -> Result<Self> {
        let context = options.context.as_deref();
        if let Some(path) = &options.kubeconfig {
            return Self::by_kubeconfig(std::slice::from_ref(path), context);
        }
        if let Some(paths) = env("KUBECONFIG") {
            return Self::by_kubeconfig(&std::env::split_paths(&paths).collect::<Vec<_>>(), context);
        }
        if let (Some(host), Some(port)) = (env("KUBERNETES_SERVICE_HOST"), env("KUBERNETES_SERVICE_PORT")) {
            return Self::by_account(&host, &port, account);
        }
        let home = env("HOME").map(|home| Path::new(&home).join(".kube/config")).filter(|path| path.exists());
        let home = home.ok_or_else(|| {
            Error::failed_precondition(
                "where Kubernetes is is not known: this is no pod, KUBECONFIG is not set, and there is no ~/.kube/config; \
                 name a kubeconfig by `?kubeconfig=` in the address",
            )
        })?;
        Self::by_kubeconfig(&[home], context)
    }

    fn by_account(host: &str, port: &str, account: &Path) -> Result<Self> {
        let port = port.parse().map_err(|_| {
            Error::failed_precondition(
                "KUBERNETES_SERVICE_PORT is no port; it is set by Kubernetes in each pod",
            )
        })?;
        let namespace = std::fs::read_to_string(account.join("namespace")).with_context(|| {
            format!("reading the pod's service account in {}; mount its token", account.display())
        })?;
        let tls = ClientTls { ca: account.join("ca.crt"), identity: None, server_name: None };
        Ok(Self {
            server: Endpoint::https(host, port),
            prefix: String::new(),
            tls: Some(tls),
            token: Source::File(account.join("token")),
            namespace: namespace.trim().to_owned(),
            is_pod: true,
            _files: None,
        })
    }

    fn by_kubeconfig(paths: &[PathBuf], context: Option<&str>) -> Result<Self> {
        let (context, cluster, user) = Kubeconfig::read(paths)?.choose(context)?;
        let (server, prefix) = server(&cluster.server)?;
        let mut files = Files::default();
        let tls = match server.scheme() {
            bowline_core::Scheme::Https => Some(tls(&cluster, &user, &mut files)?),
            _ => None,
        };
        let token = match (user.token, user.token_file) {
            // As for kubectl, the file counts.
            (_, Some(path)) => Source::File(path),
            (Some(token), None) => Source::Text(token),
            (None, None) => Source::None,
        };
        let namespace = if context.namespace.is_empty() { DEFAULT.to_owned() } else { context.namespace };
        let _files = files.0.map(Arc::new);
        Ok(Self { server, prefix, tls, token, namespace, is_pod: false, _files })
    }

    /// The API server.
    pub fn server(&self) -> &Endpoint {
        &self.server
    }

    /// How a channel to the API server has to be: HTTP/2 over TLS, to the authority that is named. It may be far away, so that
    /// connecting may take 3 s. A connection that hangs is noticed within 15 s.
    pub fn channel_options(&self) -> ChannelOptions {
        ChannelOptions {
            tls: self.tls.clone(),
            connect_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_secs(10),
            ..ChannelOptions::default()
        }
    }
}

/// `https://HOST[:PORT][/PATH]`, or `http://…` for what `kubectl proxy` serves.
fn server(url: &str) -> Result<(Endpoint, String)> {
    let wrong = || {
        Error::failed_precondition(format!(
            "the kubeconfig's server `{}` is none; it has to be https://HOST:PORT",
            url.escape_debug()
        ))
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err(wrong()),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
    let server = format!("{scheme}://{authority}").parse().map_err(|e: Error| wrong().with_source(e))?;
    let path = path.trim_end_matches('/');
    Ok((server, if path.is_empty() { String::new() } else { format!("/{path}") }))
}

fn tls(cluster: &Cluster, user: &User, files: &mut Files) -> Result<ClientTls> {
    let ca = files.one_of(
        "ca",
        cluster.certificate_authority.as_ref(),
        cluster.certificate_authority_data.as_ref(),
    )?;
    let ca = ca.ok_or_else(|| {
        Error::failed_precondition(
            "the kubeconfig's cluster names no authority; give it a `certificate-authority`, or its `…-data`",
        )
    })?;
    let certificate = files.one_of(
        "certificate",
        user.client_certificate.as_ref(),
        user.client_certificate_data.as_ref(),
    )?;
    let key = files.one_of("key", user.client_key.as_ref(), user.client_key_data.as_ref())?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            return Err(Error::failed_precondition(
                "the kubeconfig's user has one of a client certificate and its key; give it both",
            ));
        }
    };
    Ok(ClientTls { ca, identity, server_name: cluster.tls_server_name.clone() })
}

/// A directory that only this user can read, for certificates that are given as such: they are read from files.
#[derive(Default)]
struct Files(Option<TempDir>);

impl Files {
    /// The path of what is given as a path, or as base64, which counts if both are there.
    fn one_of(
        &mut self,
        name: &str,
        path: Option<&PathBuf>,
        data: Option<&String>,
    ) -> Result<Option<PathBuf>> {
        let Some(data) = data else { return Ok(path.cloned()) };
        let bytes = STANDARD.decode(data.trim()).map_err(|_| {
            Error::failed_precondition(format!("the kubeconfig's {name} is no base64; copy it once more"))
        })?;
        let directory = match self.0.take() {
            Some(directory) => directory,
            None => tempfile::tempdir().context("a directory for the kubeconfig's certificates")?,
        };
        let path = directory.path().join(name);
        self.0 = Some(directory);
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.create_new(true).write(true), 0o600);
        let mut file = options.open(&path).context("a file for the kubeconfig's certificates")?;
        file.write_all(&bytes).context("writing the kubeconfig's certificates")?;
        Ok(Some(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(env: &[(&str, &str)], options: &Options, account: &Path) -> Result<Access> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Access::find_in(options, env, account)
    }

    #[test]
    fn in_a_pod_the_service_account_says_all() {
        let directory = tempfile::tempdir().unwrap();
        let env = [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")];
        let error = found(&env, &Options::default(), directory.path()).unwrap_err();
        assert!(error.to_string().contains("service account"), "{error}");
        std::fs::write(directory.path().join("namespace"), "shop\n").unwrap();
        let access = found(&env, &Options::default(), directory.path()).unwrap();
        assert_eq!((access.server(), access.namespace.as_str()), (&Endpoint::https("fd00::1", 443), "shop"));
        assert!(access.is_pod && access.token == Source::File(directory.path().join("token")));
    }

    #[test]
    fn a_kubeconfig_is_found_and_its_inner_certificates_are_kept_from_others() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let text = "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n\
            clusters: [{name: c, cluster: {server: 'https://[::1]/k8s/', certificate-authority-data: Q0E=}}]\n\
            users: [{name: u, user: {client-certificate-data: QQ==, client-key-data: S0VZ}}]\n";
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        // It counts more than being in a pod.
        let env = [("KUBECONFIG", path), ("KUBERNETES_SERVICE_HOST", "h"), ("KUBERNETES_SERVICE_PORT", "1")];
        let access = found(&env, &Options::default(), directory.path()).unwrap();
        assert_eq!((access.server(), access.prefix.as_str()), (&Endpoint::https("::1", 443), "/k8s"));
        assert_eq!((access.namespace.as_str(), access.is_pod), ("default", false));
        let tls = access.channel_options().tls.unwrap();
        assert_eq!(std::fs::read(&tls.ca).unwrap(), b"CA");
        let (_, key) = tls.identity.unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        drop(access);
        assert!(!key.exists(), "a key outlives its user");
    }

    #[test]
    fn where_nothing_tells_where_kubernetes_is_all_ways_are_named() {
        let error =
            found(&[("HOME", "/nonexistent")], &Options::default(), Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("KUBECONFIG is not set"), "{error}");
        for url in ["", "h:1", "ftp://h", "https://"] {
            assert!(server(url).unwrap_err().to_string().contains("https://HOST:PORT"), "{url}");
        }
    }
}
