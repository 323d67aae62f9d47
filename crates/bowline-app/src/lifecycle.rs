//! How long each step may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The bounds of starting and stopping, as configuration: durations are text like `10s`, everything has a default.
///
/// Steps get a [`Context`](bowline_core::Context) that ends at their bound. One that ignores it is dropped
/// [`abort_grace`](Self::abort_grace) later.
///
/// ```
/// use bowline_app::Lifecycle;
/// use std::time::Duration;
///
/// let lifecycle: Lifecycle = serde_json::from_str(r#"{ "drain": "5s" }"#).unwrap();
/// assert_eq!(lifecycle.drain, Duration::from_secs(5));
/// assert_eq!(lifecycle.deregister, Duration::from_secs(3));
/// assert!(serde_json::from_str::<Lifecycle>(r#"{ "dran": "5s" }"#).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Lifecycle {
    /// Opening one resource, or binding one server. 30 s.
    #[serde(with = "bowline_config::duration")]
    pub start: Duration,
    /// All warm-ups together, and then all `on_ready` hooks together. 30 s.
    #[serde(with = "bowline_config::duration")]
    pub warm_up: Duration,
    /// Registering, with every registry. 10 s.
    #[serde(with = "bowline_config::duration")]
    pub register: Duration,
    /// Deregistering, from every registry. 3 s: without an answer the lease runs out, and consumers notice that the
    /// instance is not ready.
    #[serde(with = "bowline_config::duration")]
    pub deregister: Duration,
    /// How long to serve on after deregistering, so that every consumer has heard of it. 2 s: a watch delivers within
    /// milliseconds, a poll within a second or two.
    #[serde(with = "bowline_config::duration")]
    pub propagation: Duration,
    /// Waiting for the requests under way. 20 s, two heartbeats of 10 s: who missed one has seen the next.
    #[serde(with = "bowline_config::duration")]
    pub drain: Duration,
    /// How long what was told to end at once may take to do so. 1 s.
    #[serde(with = "bowline_config::duration")]
    pub abort_grace: Duration,
    /// Waiting for background tasks, from when the servers have ended. 10 s.
    #[serde(with = "bowline_config::duration")]
    pub background: Duration,
    /// Closing one resource. 5 s.
    #[serde(with = "bowline_config::duration")]
    pub close: Duration,
    /// How many background tasks may run at a time; more are refused. 10 000.
    pub background_limit: usize,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            warm_up: Duration::from_secs(30),
            register: Duration::from_secs(10),
            deregister: Duration::from_secs(3),
            propagation: Duration::from_secs(2),
            drain: Duration::from_secs(20),
            abort_grace: Duration::from_secs(1),
            background: Duration::from_secs(10),
            close: Duration::from_secs(5),
            background_limit: 10_000,
        }
    }
}

impl Lifecycle {
    /// The longest that stopping can take with so many resources, hooks that ignore their context included. What kills the
    /// process, such as Kubernetes' `terminationGracePeriodSeconds`, has to wait longer.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let bound = bowline_app::Lifecycle::default().stop_bound(1);
    /// assert_eq!(bound, Duration::from_secs(47));
    /// ```
    pub fn stop_bound(&self, resources: usize) -> Duration {
        let resources = u32::try_from(resources).unwrap_or(u32::MAX);
        // A grace each after: a start step that is interrupted, deregistering, aborting twice, background tasks.
        let steps = [self.deregister, self.propagation, self.drain, self.background, self.abort_grace * 6];
        let close = self.close.saturating_add(self.abort_grace).saturating_mul(resources);
        steps.into_iter().fold(close, Duration::saturating_add)
    }
}
