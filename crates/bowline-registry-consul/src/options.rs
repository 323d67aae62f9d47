//! What an adapter is told.

use std::fmt;
use std::time::Duration;

use bowline_core::{Endpoint, Error, Result};
use bowline_discovery::{Address, AddressForm};

/// Settings of a [`ConsulRegistry`](crate::ConsulRegistry).
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The environment whose services are watched, and that instances without one of their own are registered in. Empty,
    /// the default, is `default`. Instances that do not say theirs, such as those of Kratos, are in every one.
    pub env: String,
    /// The datacenter whose services are watched; the agent's own without it. Registering is at the agent in any case.
    pub datacenter: Option<String>,
    /// The token for Consul's access lists: it has to allow `service:write` for what is registered, `service:read` and
    /// `node:read` for what is watched. It is not shown.
    pub token: Option<String>,
    /// How long a registration lives without being renewed, 1 s to 10 min. 20 s, Kratos' choice. It is renewed three times
    /// within that time.
    pub ttl: Duration,
    /// When Consul forgets an instance that was not renewed, 1 min and more. 10 min, Kratos' choice. Nobody is told of it in
    /// between.
    pub forget_after: Duration,
    /// How long Consul keeps a question for changes open, 1 s to 10 min. 55 s, Kratos' choice. An agent that hangs is noticed
    /// after that time, a sixteenth of it, and `attempt_timeout`.
    pub wait: Duration,
    /// How long any other request may take before it counts as failed. 5 s.
    pub attempt_timeout: Duration,
    /// How long registering waits for an agent that cannot be reached before it goes on in the background. 3 s.
    pub patience: Duration,
    /// After a failure the first attempt comes within this time; each further failure doubles it. 100 ms.
    pub backoff_first: Duration,
    /// The longest time between attempts, which go on for ever. 10 s.
    pub backoff_max: Duration,
    /// For how long instances are kept that a Consul without its data does not list. 30 s: who is alive has come back by
    /// then.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            env: String::new(),
            datacenter: None,
            token: None,
            ttl: Duration::from_secs(20),
            forget_after: Duration::from_secs(600),
            wait: Duration::from_secs(55),
            attempt_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(3),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            grace: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        let mut shown = f.debug_struct("Options");
        shown.field("env", &self.env).field("datacenter", &self.datacenter).field("token", &token);
        shown.field("ttl", &self.ttl).field("wait", &self.wait).finish_non_exhaustive()
    }
}

const FORM: &str = "use consul://HOST:PORT[?dc=DATACENTER&token=TOKEN&ttl=20s&wait=55s]";
/// How an address looks.
const ADDRESS: AddressForm =
    AddressForm { name: "Consul", schemes: &[("consul", false)], port: 8_500, usage: FORM };

impl Options {
    /// Reads `consul://HOST:PORT?dc=DATACENTER&token=TOKEN&ttl=20s&wait=55s`: the agent's address, which is one, for an agent
    /// knows of those alone who registered at it. What follows the question mark may be left out; a port that is left out is
    /// 8500.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with what is wrong and the form. The token is not in the message.
    ///
    /// ```
    /// use bowline_core::Endpoint;
    /// use bowline_registry_consul::Options;
    ///
    /// let (agent, options) = Options::from_url("consul://127.0.0.1?dc=east&ttl=5s").unwrap();
    /// assert_eq!(agent, Endpoint::http("127.0.0.1", 8500));
    /// assert_eq!((options.datacenter.as_deref(), options.ttl.as_secs()), (Some("east"), 5));
    /// ```
    pub fn from_url(url: &str) -> Result<(Endpoint, Self)> {
        let address = Address::read(url, ADDRESS)?;
        let [agent] = address.servers.as_slice() else { return Err(address.wrong("it takes one agent")) };
        if address.credentials.is_some() || !address.path.is_empty() {
            return Err(address.wrong("it takes an agent without user and path"));
        }
        let mut options = Self::default();
        for (key, value) in &address.settings {
            match key.as_str() {
                "dc" => options.datacenter = Some(value.clone()),
                "token" => options.token = Some(value.clone()),
                "ttl" => options.ttl = address.seconds(key, value)?,
                "wait" => options.wait = address.seconds(key, value)?,
                _ => return Err(address.unknown(key)),
            }
        }
        options.check()?;
        Ok((agent.clone(), options))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::invalid_argument(format!("the Consul registry's options: {what}; {FORM}")))
        };
        let up_to_10_minutes = Duration::from_secs(1)..=Duration::from_secs(600);
        for (what, time) in [("ttl", self.ttl), ("wait", self.wait)] {
            if !up_to_10_minutes.contains(&time) {
                return wrong(format!("`{what}` is {time:?}; use 1 s to 600 s"));
            }
        }
        if self.forget_after < Duration::from_secs(60) {
            return wrong(format!("`forget_after` is {:?}; Consul takes 1 min and more", self.forget_after));
        }
        for (what, time) in [
            ("attempt_timeout", self.attempt_timeout),
            ("backoff_first", self.backoff_first),
            ("backoff_max", self.backoff_max),
        ] {
            if time.is_zero() {
                return wrong(format!("`{what}` is 0; leave it out for its default"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_the_address_is_read() {
        let (agent, options) =
            Options::from_url("consul://[::1]:1/?dc=a%20b&token=s%40cret&ttl=3s&wait=7s").unwrap();
        assert_eq!(agent, Endpoint::http("::1", 1));
        assert_eq!((options.datacenter.as_deref(), options.token.as_deref()), (Some("a b"), Some("s@cret")));
        assert_eq!((options.ttl, options.wait), (Duration::from_secs(3), Duration::from_secs(7)));
        assert!(!format!("{options:?}").contains("cret"));
    }

    #[test]
    fn a_malformed_address_is_refused_with_the_form_and_without_the_token() {
        for url in [
            "http://a:1",
            "consul://",
            "consul://a:x?token=secret",
            "consul://a,b",
            "consul://a/path",
            "consul://a?ttl=0s&token=secret",
            "consul://a?wait=soon",
            "consul://a?wait=1000s",
            "consul://a?lease=1",
        ] {
            let error = Options::from_url(url).unwrap_err();
            assert!(error.is_invalid() && error.message().contains("use consul://"), "{url}: {error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }
}
