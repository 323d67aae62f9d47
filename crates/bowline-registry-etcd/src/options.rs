//! What an adapter is told.

use std::time::Duration;

use bowline_core::{Endpoint, Error, Result};
use bowline_discovery::{Address, AddressForm, Credentials};

/// Settings of an [`EtcdRegistry`](crate::EtcdRegistry).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where the keys are. `/microservices`, Kratos' choice.
    pub prefix: String,
    /// The environment whose services are watched, and that instances without one of their own are registered in. Empty,
    /// the default, is `default`. Instances that do not say theirs, such as those of Kratos, are in every one.
    pub env: String,
    /// How long a registration lives without being renewed, 1 s to 10 min; etcd grants whole seconds, and never less than
    /// its election time allows (2 s by its defaults). 15 s, Kratos' choice. It is renewed three times within that time.
    pub ttl: Duration,
    /// Who asks, where etcd wants to know.
    pub credentials: Option<Credentials>,
    /// How long one request may take, and one renewal, before it counts as failed. 5 s.
    pub attempt_timeout: Duration,
    /// How long registering waits for an etcd that cannot be reached before it goes on in the background. 3 s.
    pub patience: Duration,
    /// After a failure the first attempt comes within this time; each further failure doubles it. 100 ms.
    pub backoff_first: Duration,
    /// The longest time between attempts, which go on for ever. 10 s.
    pub backoff_max: Duration,
    /// For how long instances are kept that an etcd without its data does not list. 30 s: who is alive has come back by
    /// then.
    pub grace: Duration,
    /// A watch that is silent for this long counts as broken; it is asked for a sign of life three times within. 30 s.
    pub watch_idle: Duration,
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
            grace: Duration::from_secs(30),
            watch_idle: Duration::from_secs(30),
        }
    }
}

const FORM: &str = "use etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][?prefix=/microservices&ttl=15s]";
/// How an address looks.
const ADDRESS: AddressForm =
    AddressForm { name: "etcd", schemes: &[("etcd", false), ("etcds", true)], port: 2_379, usage: FORM };

impl Options {
    /// Reads `etcd://USER:PASSWORD@HOST:PORT,HOST:PORT?prefix=/microservices&ttl=15s`; user, password and what follows the
    /// question mark may be left out. A port that is left out is 2379. With `etcds://` the members are spoken to over TLS.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with what is wrong and the form. The password is not in the message.
    ///
    /// ```
    /// use bowline_core::Endpoint;
    /// use bowline_registry_etcd::Options;
    ///
    /// let (members, options) = Options::from_url("etcd://a,b:1?ttl=5s").unwrap();
    /// assert_eq!(members, [Endpoint::http("a", 2379), Endpoint::http("b", 1)]);
    /// assert_eq!((options.prefix.as_str(), options.ttl.as_secs()), ("/microservices", 5));
    /// ```
    pub fn from_url(url: &str) -> Result<(Vec<Endpoint>, Self)> {
        let address = Address::read(url, ADDRESS)?;
        if !address.path.is_empty() {
            return Err(address.wrong("it has a path"));
        }
        let mut options = Self { credentials: address.credentials.clone(), ..Self::default() };
        for (key, value) in &address.settings {
            match key.as_str() {
                "prefix" => options.prefix.clone_from(value),
                "ttl" => options.ttl = address.seconds(key, value)?,
                _ => return Err(address.unknown(key)),
            }
        }
        options.check()?;
        Ok((address.servers, options))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong =
            |what: String| Err(Error::invalid_argument(format!("the etcd registry's options: {what}")));
        if !self.prefix.starts_with('/') || self.prefix.ends_with('/') {
            return wrong(format!(
                "`prefix` is `{}`; it begins with `/` and does not end with one",
                self.prefix
            ));
        }
        if !(1..=600).contains(&self.ttl.as_secs()) || self.ttl.subsec_nanos() != 0 {
            return wrong(format!("`ttl` is {:?}; use whole seconds from 1 to 600", self.ttl));
        }
        for (what, time) in [
            ("attempt_timeout", self.attempt_timeout),
            ("backoff_first", self.backoff_first),
            ("backoff_max", self.backoff_max),
            ("watch_idle", self.watch_idle),
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
        let (members, options) =
            Options::from_url("etcds://root:p%40ss@[::1],b:2/?prefix=/a/b&ttl=3s").unwrap();
        assert_eq!(members, [Endpoint::https("::1", 2379), Endpoint::https("b", 2)]);
        assert_eq!((&*options.prefix, options.ttl), ("/a/b", Duration::from_secs(3)));
        let credentials = options.credentials.unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("root", "p@ss"));
        assert!(!format!("{credentials:?}").contains("p@ss"));
    }

    #[test]
    fn a_malformed_address_is_refused_with_the_form_and_without_the_password() {
        for url in [
            "http://a:1",
            "etcd://",
            "etcd://a:x",
            "etcd://root@a",
            "etcd://u:secret@a:x",
            "etcd://a?ttl=0s",
            "etcd://a?ttl=soon",
            "etcd://a?prefix=x",
            "etcd://a?lease=1",
        ] {
            let error = Options::from_url(url).unwrap_err();
            assert!(
                error.is_invalid() && error.message().contains("use") || error.message().contains("begins"),
                "{url}: {error}"
            );
            assert!(!error.message().contains("secret"), "{error}");
        }
    }
}
