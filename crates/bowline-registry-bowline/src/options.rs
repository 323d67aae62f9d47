//! What an adapter is told.

use std::time::Duration;

use bowline_core::{Error, Result};

use crate::names;

/// Settings of a [`BowlineRegistry`](crate::BowlineRegistry).
///
/// ```
/// use bowline_registry_bowline::Options;
///
/// let mut options = Options::default();
/// options.env = "prod".into();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Services of different namespaces do not see each other. Empty, the default, is `default`.
    pub namespace: String,
    /// The environment whose services are watched, and that instances without one of their own are registered in. Empty,
    /// the default, is `default`.
    pub env: String,
    /// How long a registration lives without being renewed, 1 s to 10 min. The registry's own choice, 30 s, if `None`.
    /// It is renewed three times within that time.
    pub ttl: Option<Duration>,
    /// How long one request to the registry may take, and one renewal, before it counts as failed. 5 s.
    pub attempt_timeout: Duration,
    /// How long registering waits for a registry that cannot be reached before it goes on in the background. 3 s.
    pub patience: Duration,
    /// After a failure the first attempt comes within this time; each further failure doubles it. 100 ms.
    pub backoff_first: Duration,
    /// The longest time between attempts, which go on for ever. 10 s.
    pub backoff_max: Duration,
    /// A registry that restarted knows nobody at first. For this long, instances that it does not list are kept. 30 s, a
    /// lease: who is alive has come back by then.
    pub grace: Duration,
    /// A watch stream that is silent for this long counts as broken. 45 s: the registry gives a sign of life every 10 s.
    pub watch_idle: Duration,
    /// How many services can be watched. 1 000, which is what the registry allows on one stream.
    pub max_services: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            env: String::new(),
            ttl: None,
            attempt_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(3),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            watch_idle: Duration::from_secs(45),
            max_services: 1_000,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        let wrong =
            |what: String| Err(Error::invalid_argument(format!("the registry client's options: {what}")));
        for (what, name) in [("namespace", &self.namespace), ("env", &self.env)] {
            if !names::is_label(name) {
                return wrong(format!("`{what}` is `{name}`; use up to 63 of a-z, A-Z, 0-9, `-` and `_`"));
            }
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
