//! What an adapter is told.

use std::time::Duration;

use bowline_core::{Endpoint, Error, Result};
use bowline_discovery::{Address, AddressForm, Credentials};
use percent_encoding::percent_decode_str;

/// Settings of a [`ZookeeperRegistry`](crate::ZookeeperRegistry).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where the nodes are. `/microservices`, Kratos' choice.
    pub prefix: String,
    /// The environment whose services are watched, and that instances without one of their own are registered in. Empty,
    /// the default, is `default`. Instances that do not say theirs, such as those of Kratos, are in every one.
    pub env: String,
    /// How long a session lives without a sign of life, and with it the registrations of the process, 1 s to 10 min. The
    /// servers grant 2 to 20 of their ticks: 4 s to 40 s by their defaults. 15 s, as in Kratos' examples.
    pub ttl: Duration,
    /// Who asks, by the scheme `digest`. What is registered then is its user's alone to change.
    pub credentials: Option<Credentials>,
    /// How long one request may take, and making a connection, before it counts as failed. 5 s.
    pub attempt_timeout: Duration,
    /// How long registering waits for servers that cannot be reached before it goes on in the background. 3 s.
    pub patience: Duration,
    /// After a failure the first attempt comes within this time; each further failure doubles it. 100 ms.
    pub backoff_first: Duration,
    /// The longest time between attempts, which go on for ever. 10 s.
    pub backoff_max: Duration,
    /// For how long instances are kept that a ZooKeeper without its data does not list. 45 s: who is alive has come back by
    /// then, for a process gives its old session up after `ttl` and tries again within `backoff_max`.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: "/microservices".into(),
            env: String::new(),
            ttl: Duration::from_secs(15),
            credentials: None,
            attempt_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(3),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            grace: Duration::from_secs(45),
        }
    }
}

const FORM: &str = "use zookeeper://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/PREFIX][?ttl=15s]";
/// How an address looks.
const ADDRESS: AddressForm =
    AddressForm { name: "ZooKeeper", schemes: &[("zookeeper", false)], port: 2_181, usage: FORM };

impl Options {
    /// Reads `zookeeper://USER:PASSWORD@HOST:PORT,HOST:PORT/microservices?ttl=15s`; user, password, path and what follows the
    /// question mark may be left out. A port that is left out is 2181.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with what is wrong and the form. The password is not in the message.
    ///
    /// ```
    /// use bowline_core::Endpoint;
    /// use bowline_registry_zookeeper::Options;
    ///
    /// let (servers, options) = Options::from_url("zookeeper://a,b:1/shop?ttl=5s").unwrap();
    /// assert_eq!(servers, [Endpoint::http("a", 2181), Endpoint::http("b", 1)]);
    /// assert_eq!((options.prefix.as_str(), options.ttl.as_secs()), ("/shop", 5));
    /// ```
    pub fn from_url(url: &str) -> Result<(Vec<Endpoint>, Self)> {
        let address = Address::read(url, ADDRESS)?;
        let mut options = Self { credentials: address.credentials.clone(), ..Self::default() };
        if !address.path.is_empty() {
            let path = percent_decode_str(&address.path).decode_utf8();
            options.prefix = format!("/{}", path.map_err(|_| address.wrong("the path is not UTF-8"))?);
        }
        for (key, value) in &address.settings {
            match key.as_str() {
                "ttl" => options.ttl = address.seconds(key, value)?,
                _ => return Err(address.unknown(key)),
            }
        }
        options.check()?;
        Ok((address.servers, options))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::invalid_argument(format!("the ZooKeeper registry's options: {what}; {FORM}")))
        };
        let parts = self.prefix.strip_prefix('/').unwrap_or_default().split('/');
        if parts.into_iter().any(|part| matches!(part, "" | "." | "..")) {
            return wrong(format!("`{}` is no path of a node such as /microservices", self.prefix));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.ttl) {
            return wrong(format!("`ttl` is {:?}; use 1 s to 600 s", self.ttl));
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
        let (servers, options) = Options::from_url("zookeeper://root:p%40ss@[::1],b:2/a/b/?ttl=3s").unwrap();
        assert_eq!(servers, [Endpoint::http("::1", 2181), Endpoint::http("b", 2)]);
        assert_eq!((&*options.prefix, options.ttl), ("/a/b", Duration::from_secs(3)));
        let credentials = options.credentials.unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("root", "p@ss"));
        assert!(!format!("{credentials:?}").contains("p@ss"));
        assert_eq!(Options::from_url("zookeeper://a/").unwrap().1.prefix, "/microservices");
    }

    #[test]
    fn a_malformed_address_is_refused_with_the_form_and_without_the_password() {
        for url in [
            "http://a:1",
            "zookeeper://",
            "zookeeper://a:x",
            "zookeeper://root@a",
            "zookeeper://u:secret@a:x",
            "zookeeper://a?ttl=0s",
            "zookeeper://a?ttl=soon",
            "zookeeper://a/x//y",
            "zookeeper://a/../x",
            "zookeeper://a?lease=1",
        ] {
            let error = Options::from_url(url).unwrap_err();
            assert!(error.is_invalid() && error.message().contains("use zookeeper://"), "{url}: {error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }
}
