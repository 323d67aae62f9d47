//! What an adapter is told.

use std::path::PathBuf;
use std::time::Duration;

use bowline_core::{Error, Result};
use bowline_discovery::{Address, AddressForm};

/// Who tells Kubernetes of the instances of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Kubernetes itself: the process runs in a pod that a Service selects, and its readiness probe decides. Registering does
    /// nothing then.
    Pod,
    /// The process: by an EndpointSlice of its own, and a lease that it renews.
    Slice,
}

/// Settings of a [`KubernetesRegistry`](crate::KubernetesRegistry).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The environment whose services are watched, and that instances without one of their own are registered in. Empty,
    /// the default, is `default`. Instances that do not say theirs are in every one.
    pub env: String,
    /// The namespace of the services. `None`, the default, is the pod's own, or that of the kubeconfig's context.
    pub namespace: Option<String>,
    /// Which of a Service's ports are used, by name. None, the default: those whose `appProtocol` or name tells that they
    /// speak gRPC or HTTP; without such, the only one.
    pub ports: Vec<String>,
    /// Who registers. `None`, the default: Kubernetes itself where the process runs in a pod, else the process.
    pub register: Option<Register>,
    /// The kubeconfig to use. `None`, the default: what `KUBECONFIG` names; without, a pod's service account; without,
    /// `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. `None`, the default: its current one.
    pub context: Option<String>,
    /// How long a registration lives without being renewed, in whole seconds, 1 s to 10 min. 15 s, as leader election has it in
    /// Kubernetes. It is renewed about three times within that time. Watchers notice its end a third of it, or a second, later.
    pub ttl: Duration,
    /// When what was not renewed is deleted by whoever registers for the same service, 1 min and more. 10 min. Nobody is told
    /// of it in between.
    pub forget_after: Duration,
    /// How long one watch lasts, half of that to the whole of it, 1 s to 1 h. 10 min, as Kubernetes' own client has it.
    pub watch: Duration,
    /// How long any other request may take before it counts as failed. 5 s.
    pub attempt_timeout: Duration,
    /// How long registering waits for an API server that cannot be reached before it goes on in the background. 3 s.
    pub patience: Duration,
    /// After a failure the first attempt comes within this time; each further failure doubles it. 100 ms.
    pub backoff_first: Duration,
    /// The longest time between attempts, which go on for ever. 10 s.
    pub backoff_max: Duration,
    /// For how long instances are kept that a Kubernetes without its data does not list. 30 s: who is alive has come back by
    /// then.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            env: String::new(),
            namespace: None,
            ports: Vec::new(),
            register: None,
            kubeconfig: None,
            context: None,
            ttl: Duration::from_secs(15),
            forget_after: Duration::from_secs(600),
            watch: Duration::from_secs(600),
            attempt_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(3),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            grace: Duration::from_secs(30),
        }
    }
}

const FORM: &str =
    "use kubernetes://[NAMESPACE][?port=NAME&register=pod|slice&kubeconfig=PATH&context=NAME&ttl=15s]";
/// How an address looks. What stands where others have a server is the namespace.
const ADDRESS: AddressForm =
    AddressForm { name: "Kubernetes", schemes: &[("kubernetes", false)], port: 443, usage: FORM };

impl Options {
    /// Reads `kubernetes://[NAMESPACE][?port=NAME&register=pod|slice&kubeconfig=PATH&context=NAME&ttl=15s]`. `port` may be there
    /// several times. Where the API server is, the pod's environment or the kubeconfig tells.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with what is wrong and the form.
    ///
    /// ```
    /// use bowline_registry_kubernetes::{Options, Register};
    ///
    /// let options = Options::from_url("kubernetes://shop?port=grpc&register=slice").unwrap();
    /// assert_eq!((options.namespace.as_deref(), options.ports.as_slice()), (Some("shop"), &["grpc".to_owned()][..]));
    /// assert_eq!(options.register, Some(Register::Slice));
    /// assert_eq!(Options::from_url("kubernetes://").unwrap().namespace, None);
    /// ```
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("kubernetes://").unwrap_or_default();
        let is_named = !(rest.is_empty() || rest.starts_with(['?', '/']));
        // An address has a server, which this one may lack.
        let named = if is_named { url.to_owned() } else { url.replacen("://", "://none", 1) };
        let address = Address::read(&named, ADDRESS)?;
        let [namespace] = address.servers.as_slice() else {
            return Err(address.wrong("it takes one namespace"));
        };
        if address.credentials.is_some() || !address.path.is_empty() {
            return Err(address.wrong("it takes a namespace without user and path"));
        }
        if !is_name(namespace.host()) || namespace.port() != ADDRESS.port {
            return Err(address.wrong("a namespace is 1 to 63 of a-z, 0-9 and `-`, and no server"));
        }
        let namespace = is_named.then(|| namespace.host().to_owned());
        let mut options = Self { namespace, ..Self::default() };
        for (key, value) in &address.settings {
            match (key.as_str(), value.as_str()) {
                (_, "") => return Err(address.wrong(&format!("`{key}` is empty"))),
                ("port", name) => options.ports.push(name.to_owned()),
                ("register", "pod") => options.register = Some(Register::Pod),
                ("register", "slice") => options.register = Some(Register::Slice),
                ("register", _) => return Err(address.wrong("`register` is `pod` or `slice`")),
                ("kubeconfig", path) => options.kubeconfig = Some(path.into()),
                ("context", name) => options.context = Some(name.to_owned()),
                ("ttl", time) => options.ttl = address.seconds(key, time)?,
                _ => return Err(address.unknown(key)),
            }
        }
        options.check().map_err(|e| address.wrong(e.message()).with_source(e))?;
        Ok(options)
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let second = Duration::from_secs(1);
        for (name, value, most) in [("ttl", self.ttl, 600), ("watch", self.watch, 3_600)] {
            if value < second || value > Duration::from_secs(most) || value.subsec_nanos() != 0 {
                return Err(Error::invalid_argument(format!(
                    "`{name}` is {value:?}, and has to be whole seconds from 1 s to {most} s"
                )));
            }
        }
        if self.forget_after < Duration::from_secs(60) {
            return Err(Error::invalid_argument("`forget_after` has to be 1 min or more"));
        }
        if self.attempt_timeout.is_zero() || self.backoff_first.is_zero() || self.backoff_max.is_zero() {
            return Err(Error::invalid_argument("no time of the options may be 0"));
        }
        match &self.namespace {
            Some(namespace) if !is_name(namespace) => Err(Error::invalid_argument(format!(
                "`{}` is no namespace; use 1 to 63 of a-z, 0-9 and `-`",
                namespace.escape_debug()
            ))),
            _ => Ok(()),
        }
    }
}

/// A label of the DNS (RFC 1123), which namespaces are.
pub(crate) fn is_name(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(valid)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_the_address_is_read() {
        let options = Options::from_url(
            "kubernetes://shop?port=grpc&port=http&register=pod&kubeconfig=/a%20b&context=c&ttl=3s",
        )
        .unwrap();
        assert_eq!(options.namespace.as_deref(), Some("shop"));
        assert_eq!(
            (options.ports, options.register),
            (vec!["grpc".into(), "http".into()], Some(Register::Pod))
        );
        assert_eq!((options.kubeconfig, options.context), (Some("/a b".into()), Some("c".into())));
        assert_eq!(options.ttl, Duration::from_secs(3));
        for url in ["kubernetes://", "kubernetes:///", "kubernetes://?ttl=15s"] {
            assert_eq!(Options::from_url(url).unwrap().namespace, None, "{url}");
        }
    }

    #[test]
    fn a_malformed_address_is_refused_with_the_form() {
        for url in [
            "http://a",
            "kubernetes:",
            "kubernetes://A",
            "kubernetes://a.b",
            "kubernetes://127.0.0.1:6443",
            "kubernetes://a,b",
            "kubernetes://a/b",
            "kubernetes://u:p@a",
            "kubernetes://a?ttl=0s",
            "kubernetes://a?ttl=soon",
            "kubernetes://a?port=",
            "kubernetes://a?register=both",
            "kubernetes://a?x=1",
        ] {
            let error = Options::from_url(url).unwrap_err();
            assert!(error.is_invalid() && error.message().contains("use kubernetes://"), "{url}: {error}");
        }
    }
}
