//! What an adapter is told.

use std::time::Duration;

use bowline_core::{Endpoint, Error, Result};
use bowline_discovery::{Address, AddressForm, Credentials};

/// Settings of an [`EurekaRegistry`](crate::EurekaRegistry).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where the servers have Eureka's REST. `/eureka`, Spring Cloud's choice; Netflix' own has `/eureka/v2`.
    pub path: String,
    /// The environment whose services are watched, and that instances without one of their own are registered in. Empty,
    /// the default, is `default`. Instances that do not say theirs, such as those of others, are in every one.
    pub env: String,
    /// Who asks, where a server wants to know (HTTP's basic authentication).
    pub credentials: Option<Credentials>,
    /// How long a registration lives without being renewed, 3 s to 1 h, in whole seconds. 90 s, as in Netflix' client: it is
    /// renewed three times within, and servers decide by two renewals a minute whether they have lost many at a time. They
    /// let a registration live for twice this time.
    pub ttl: Duration,
    /// How often changes are asked for, 100 ms to 10 min. 30 s, as in Netflix' client; servers keep their answers for as long
    /// by default.
    pub fetch: Duration,
    /// How long one request may take before it counts as failed. 5 s.
    pub attempt_timeout: Duration,
    /// How long registering waits for servers that cannot be reached before it goes on in the background. 3 s.
    pub patience: Duration,
    /// After a failure the first attempt comes within this time; each further failure doubles it. 100 ms.
    pub backoff_first: Duration,
    /// The longest time between attempts, which go on for ever. 10 s.
    pub backoff_max: Duration,
    /// For how long instances are kept that a server does not list any more without saying that they are gone: it holds
    /// everything in memory, and begins anew at each start. 90 s: who is alive has come back by then.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: "/eureka".into(),
            env: String::new(),
            credentials: None,
            ttl: Duration::from_secs(90),
            fetch: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(3),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            grace: Duration::from_secs(90),
        }
    }
}

const FORM: &str = "use eureka://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/eureka][?ttl=90s&fetch=30s]";
/// How an address looks.
const ADDRESS: AddressForm =
    AddressForm { name: "Eureka", schemes: &[("eureka", false)], port: 8_761, usage: FORM };

impl Options {
    /// Reads `eureka://USER:PASSWORD@HOST:PORT,HOST:PORT/eureka?ttl=90s&fetch=30s`; user, password, path and what follows the
    /// question mark may be left out. A port that is left out is 8761.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with what is wrong and the form. The password is not in the message.
    ///
    /// ```
    /// use bowline_core::Endpoint;
    /// use bowline_registry_eureka::Options;
    ///
    /// let (servers, options) = Options::from_url("eureka://a,b:1/eureka/v2?fetch=5s").unwrap();
    /// assert_eq!(servers, [Endpoint::http("a", 8761), Endpoint::http("b", 1)]);
    /// assert_eq!((options.path.as_str(), options.fetch.as_secs()), ("/eureka/v2", 5));
    /// ```
    pub fn from_url(url: &str) -> Result<(Vec<Endpoint>, Self)> {
        let address = Address::read(url, ADDRESS)?;
        let mut options = Self { credentials: address.credentials.clone(), ..Self::default() };
        if !address.path.is_empty() {
            options.path = format!("/{}", address.path);
        }
        for (key, value) in &address.settings {
            match key.as_str() {
                "ttl" => options.ttl = address.seconds(key, value)?,
                "fetch" => options.fetch = address.seconds(key, value)?,
                _ => return Err(address.unknown(key)),
            }
        }
        options.check()?;
        Ok((address.servers, options))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::invalid_argument(format!("the Eureka registry's options: {what}; {FORM}")))
        };
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%".contains(&b);
        if !self.path.starts_with('/') || self.path.ends_with('/') || !self.path.bytes().all(is_plain) {
            return wrong(format!("`{}` is no path such as /eureka", self.path));
        }
        if !(3..=3600).contains(&self.ttl.as_secs()) || self.ttl.subsec_nanos() != 0 {
            return wrong(format!("`ttl` is {:?}; use whole seconds from 3 to 3600", self.ttl));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(600)).contains(&self.fetch) {
            return wrong(format!("`fetch` is {:?}; use 100 ms to 600 s", self.fetch));
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
        let (servers, options) =
            Options::from_url("eureka://root:p%40ss@[::1],b:2/eureka/v2/?ttl=9s&fetch=3s").unwrap();
        assert_eq!(servers, [Endpoint::http("::1", 8761), Endpoint::http("b", 2)]);
        assert_eq!((&*options.path, options.ttl.as_secs(), options.fetch.as_secs()), ("/eureka/v2", 9, 3));
        let credentials = options.credentials.unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("root", "p@ss"));
        assert!(!format!("{credentials:?}").contains("p@ss"));
        assert_eq!(Options::from_url("eureka://a/").unwrap().1.path, "/eureka");
    }

    #[test]
    fn a_malformed_address_is_refused_with_the_form_and_without_the_password() {
        for url in [
            "http://a:1",
            "eureka://",
            "eureka://a:x",
            "eureka://root@a",
            "eureka://u:secret@a:x",
            "eureka://a?ttl=1s",
            "eureka://a?fetch=soon",
            "eureka://a?fetch=0s",
            "eureka://a/x y",
            "eureka://a?lease=1",
        ] {
            let error = Options::from_url(url).unwrap_err();
            assert!(error.is_invalid() && error.message().contains("use eureka://"), "{url}: {error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }
}
