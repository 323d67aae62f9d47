//! kubectl's configuration, of which servers, certificates and tokens are read.

use std::path::{Path, PathBuf};

use bowline_core::{Error, Result, WrapErr};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The most bytes of a file.
const LARGEST: u64 = 4 << 20;

/// One file, or several as one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Kubeconfig {
    current_context: String,
    contexts: Vec<NamedContext>,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Context {
    cluster: String,
    user: String,
    pub(crate) namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Cluster {
    pub(crate) server: String,
    pub(crate) certificate_authority: Option<PathBuf>,
    pub(crate) certificate_authority_data: Option<String>,
    pub(crate) tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: User,
}

/// Its secrets are not shown.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct User {
    pub(crate) token: Option<String>,
    #[serde(rename = "tokenFile")]
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) client_certificate: Option<PathBuf>,
    pub(crate) client_certificate_data: Option<String>,
    pub(crate) client_key: Option<PathBuf>,
    pub(crate) client_key_data: Option<String>,
    username: Option<IgnoredAny>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("token", &self.token.as_ref().map(|_| "…")).finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// Reads these files as one: what is in an earlier one counts. Those that are not there are left out, if one is.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if there is none, or one cannot be read.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut all = Self::default();
        let there: Vec<_> = paths.iter().filter(|path| path.exists()).collect();
        if there.is_empty() {
            let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            return Err(Error::failed_precondition(format!(
                "there is no kubeconfig at {}",
                paths.join(" or ")
            )));
        }
        for path in there {
            let one =
                Self::read_one(path).with_context(|| format!("reading the kubeconfig {}", path.display()))?;
            if all.current_context.is_empty() {
                all.current_context = one.current_context;
            }
            all.contexts.extend(one.contexts);
            all.clusters.extend(one.clusters);
            all.users.extend(one.users);
        }
        Ok(all)
    }

    fn read_one(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).context("looking at it")?.len();
        if length > LARGEST {
            return Err(Error::failed_precondition(format!(
                "it has {length} bytes, and at most {LARGEST} are read"
            )));
        }
        let text = std::fs::read_to_string(path).context("reading it")?;
        // What a parser says may show a line, and a line may be a key.
        let parsed: Result<Self, _> = serde_saphyr::from_str(&text);
        let mut read = parsed.map_err(|_| {
            Error::failed_precondition(
                "it is no kubeconfig in YAML; see what `kubectl config view` says of it",
            )
        })?;
        // Its paths are seen from where it is.
        let base = path.parent().unwrap_or(Path::new(""));
        let resolve = |path: &mut Option<PathBuf>| *path = path.take().map(|path| base.join(path));
        for named in &mut read.clusters {
            resolve(&mut named.cluster.certificate_authority);
        }
        for named in &mut read.users {
            let user = &mut named.user;
            for path in [&mut user.token_file, &mut user.client_certificate, &mut user.client_key] {
                resolve(path);
            }
        }
        Ok(read)
    }

    /// What a context says, the current one without a name.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if there is no such context, or something in it is not supported here.
    pub(crate) fn choose(&self, context: Option<&str>) -> Result<(Context, Cluster, User)> {
        let name = context.unwrap_or(&self.current_context);
        if name.is_empty() {
            return Err(Error::failed_precondition(
                "the kubeconfig has no current context; name one by `?context=` in the address",
            ));
        }
        let missing = |what: &str, name: &str| {
            Error::failed_precondition(format!("the kubeconfig has no {what} `{}`", name.escape_debug()))
        };
        let found = self.contexts.iter().find(|named| named.name == name);
        let context = found.ok_or_else(|| missing("context", name))?.context.clone();
        let found = self.clusters.iter().find(|named| named.name == context.cluster);
        let cluster = found.ok_or_else(|| missing("cluster", &context.cluster))?.cluster.clone();
        let found = self.users.iter().find(|named| named.name == context.user);
        let user = match found {
            Some(named) => named.user.clone(),
            None if context.user.is_empty() => User::default(),
            None => return Err(missing("user", &context.user)),
        };
        refuse(&cluster, &user)?;
        Ok((context, cluster, user))
    }
}

/// Names what cannot be done here.
fn refuse(cluster: &Cluster, user: &User) -> Result<()> {
    let token = "give the user a `token`, such as that of `kubectl create token`, or a client certificate";
    let wrong = if user.exec.is_some() {
        format!("its user logs in by a program (`exec`), which is not run here; {token}")
    } else if user.auth_provider.is_some() {
        format!("its user logs in by an `auth-provider`, which there is none of here; {token}")
    } else if user.username.is_some() {
        format!("its user has a password, which Kubernetes takes no more; {token}")
    } else if cluster.insecure_skip_tls_verify {
        "`insecure-skip-tls-verify` is not done here; name the `certificate-authority`".to_owned()
    } else if cluster.proxy_url.is_some() {
        "a proxy (`proxy-url`) is not supported; use a server that can be reached".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::failed_precondition(format!("the kubeconfig cannot be used: {wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
        contexts: [{name: a, context: {cluster: c, user: u, namespace: shop}}, {name: b, context: {cluster: d, user: p}}]\n\
        clusters: [{name: c, cluster: {server: 'https://h:6443', certificate-authority: ca.pem}}]\n\
        users: [{name: u, user: {token: secret}}, {name: p, user: {exec: {command: aws, apiVersion: x}}}]\n\
        preferences: {}\n";
    const TWO: &str = "current-context: b\nclusters: [{name: d, cluster: {server: 'https://d'}}]\n";

    fn written(texts: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let path = |(n, text): (usize, &&str)| {
            let path = directory.path().join(n.to_string());
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths = texts.iter().enumerate().map(path).collect();
        (directory, paths)
    }

    #[test]
    fn several_files_are_read_as_one_and_the_first_one_counts() {
        let (directory, mut paths) = written(&[ONE, TWO]);
        paths.push(directory.path().join("missing"));
        let (context, cluster, user) = Kubeconfig::read(&paths).unwrap().choose(None).unwrap();
        assert_eq!((context.namespace.as_str(), cluster.server.as_str()), ("shop", "https://h:6443"));
        assert_eq!(cluster.certificate_authority, Some(directory.path().join("ca.pem")));
        assert_eq!(user.token.as_deref(), Some("secret"));
        assert!(!format!("{:?}", Kubeconfig::read(&paths).unwrap()).contains("secret"));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_the_mend() {
        let (directory, paths) = written(&[ONE, TWO]);
        let error = |context| Kubeconfig::read(&paths).unwrap().choose(context).unwrap_err().to_string();
        assert!(error(Some("b")).contains("kubectl create token"), "{}", error(Some("b")));
        assert!(error(Some("x")).contains("no context `x`"));
        let error = Kubeconfig::read(&paths[..1]).unwrap().choose(Some("b")).unwrap_err();
        assert!(error.to_string().contains("no cluster `d`"), "{error}");
        let missing = directory.path().join("missing");
        let error = Kubeconfig::read(&[missing]).unwrap_err();
        assert!(error.to_string().contains("no kubeconfig at"), "{error}");
        let (_directory, paths) = written(&["users: [{token: secret"]);
        let error = Kubeconfig::read(&paths).unwrap_err();
        assert!(error.to_string().contains("no kubeconfig in YAML") && !error.to_string().contains("secret"));
        assert!(Kubeconfig::default().choose(None).unwrap_err().to_string().contains("no current context"));
    }
}
