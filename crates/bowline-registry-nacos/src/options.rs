//! What an adapter is told.

use std::time::Duration;

use bowline_core::{Endpoint, Error, Result};
use bowline_discovery::{Address, AddressForm, Credentials};

use crate::names::DEFAULT_GROUP;

/// Settings of a [`NacosRegistry`](crate::NacosRegistry).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The id of the namespace. Empty, the default, is `public`.
    pub namespace: String,
    /// The group of all services. `DEFAULT_GROUP`, Nacos' and Kratos' choice.
    pub group: String,
    /// The environment whose services are watched, and that instances without one of their own are registered in. Empty,
    /// the default, is `default`. Instances that do not say theirs, such as those of Kratos, are in every one.
    pub env: String,
    /// Who asks, where Nacos wants to know.
    pub credentials: Option<Credentials>,
    /// How far the port of gRPC is above that of HTTP. 1000.
    pub offset: u16,
    /// How often a registration is looked for: whether Nacos still has it, and nobody else has its id. 15 s, and as long
    /// again for every 50 instances of the service, for Nacos tells of all of them to who looks for one.
    pub check: Duration,
    /// How long one request may take before it counts as failed. 3 s, as in Nacos' clients.
    pub attempt_timeout: Duration,
    /// How long registering waits for a Nacos that cannot be reached before it goes on in the background. 3 s.
    pub patience: Duration,
    /// After a failure the first attempt comes within this time; each further failure doubles it. 100 ms.
    pub backoff_first: Duration,
    /// The longest time between attempts, which go on for ever. 10 s.
    pub backoff_max: Duration,
    /// For how long instances are kept that a Nacos does not list over a new connection. 30 s: who is alive has come back by
    /// then.
    pub grace: Duration,
    /// A connection is asked for a sign of life three times within this time. 15 s: every 5 s, as Nacos' clients do.
    pub watch_idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            group: DEFAULT_GROUP.into(),
            env: String::new(),
            credentials: None,
            offset: 1_000,
            check: Duration::from_secs(15),
            attempt_timeout: Duration::from_secs(3),
            patience: Duration::from_secs(3),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            watch_idle: Duration::from_secs(15),
        }
    }
}

const FORM: &str =
    "use nacos://HOST[:PORT][,HOST[:PORT]…][?namespace=ID&group=GROUP&username=USER&password=PASSWORD]";
/// How an address looks.
const ADDRESS: AddressForm =
    AddressForm { name: "Nacos", schemes: &[("nacos", false)], port: 8_848, usage: FORM };

impl Options {
    /// Reads `nacos://HOST:PORT,HOST:PORT?namespace=ID&group=GROUP&username=USER&password=PASSWORD`; what follows the question
    /// mark may be left out. The ports are those of HTTP; one that is left out is 8848.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with what is wrong and the form. The password is not in the message.
    ///
    /// ```
    /// use bowline_core::Endpoint;
    /// use bowline_registry_nacos::Options;
    ///
    /// let (servers, options) = Options::from_url("nacos://a,b:1?group=G").unwrap();
    /// assert_eq!(servers, [Endpoint::http("a", 8848), Endpoint::http("b", 1)]);
    /// assert_eq!((options.group.as_str(), options.offset), ("G", 1000));
    /// ```
    pub fn from_url(url: &str) -> Result<(Vec<Endpoint>, Self)> {
        let address = Address::read(url, ADDRESS)?;
        if address.credentials.is_some() || !address.path.is_empty() {
            return Err(address.wrong("it takes servers without user and path"));
        }
        let (mut options, mut user, mut password) = (Self::default(), None, None);
        for (key, value) in &address.settings {
            match key.as_str() {
                "namespace" => options.namespace.clone_from(value),
                "group" => options.group.clone_from(value),
                "username" => user = Some(value.clone()),
                "password" => password = Some(value.clone()),
                _ => return Err(address.unknown(key)),
            }
        }
        options.credentials = match (user, password) {
            (Some(user), Some(password)) => Some(Credentials { user, password }),
            (None, None) => None,
            _ => return Err(address.wrong("there is one of `username` and `password` without the other")),
        };
        options.check()?;
        Ok((address.servers, options))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong =
            |what: String| Err(Error::invalid_argument(format!("the Nacos registry's options: {what}")));
        if self.group.is_empty() {
            return wrong(format!("`group` is empty; leave it out for {DEFAULT_GROUP}"));
        }
        for (what, time) in [
            ("check", self.check),
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
        let (servers, options) =
            Options::from_url("nacos://[::1],b:2/?namespace=dev&username=n&password=p%40ss").unwrap();
        assert_eq!(servers, [Endpoint::http("::1", 8848), Endpoint::http("b", 2)]);
        assert_eq!((&*options.namespace, &*options.group), ("dev", DEFAULT_GROUP));
        let credentials = options.credentials.unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("n", "p@ss"));
        assert!(!format!("{credentials:?}").contains("p@ss"));
    }

    #[test]
    fn a_malformed_address_is_refused_with_the_form_and_without_the_password() {
        for url in [
            "http://a:1",
            "nacos://",
            "nacos://a:x?username=u&password=secret",
            "nacos://a?username=u",
            "nacos://a?group=",
            "nacos://a?env=prod",
        ] {
            let error = Options::from_url(url).unwrap_err();
            let helps = ["use nacos://", "leave it out"].iter().any(|help| error.message().contains(help));
            assert!(error.is_invalid() && helps, "{url}: {error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }
}
