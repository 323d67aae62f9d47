//! Follows all watched services over one stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_core::{Context, Error, Instant, Result};
use bowline_discovery::{Backoff, Publisher};

use crate::api::bowline::registry::v1::{WatchRequest, WatchResponse};
use crate::inner::Inner;
use crate::view::View;

/// The stream's side of the watched services.
pub(crate) struct Session {
    inner: Arc<Inner>,
    followed: BTreeMap<Arc<str>, Followed>,
    backoff: Backoff,
}

struct Followed {
    number: u64,
    publisher: Publisher,
    view: View,
}

impl Session {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let backoff = inner.backoff();
        Self { inner, followed: BTreeMap::new(), backoff }
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        loop {
            self.take_over();
            if self.followed.is_empty() {
                inner.subscriptions.changed().await;
                continue;
            }
            let (number, _) = inner.nodes.current();
            let Err(error) = self.stream().await else { continue };
            inner.nodes.failed(number);
            let asked = error.retry_after().unwrap_or_default().min(inner.options.backoff_max);
            let delay = self.backoff.next(&inner.rng).max(asked);
            tracing::debug!(%error, ?delay, "watching failed; trying again");
            let error = error.context("watching the registry");
            self.take_over();
            self.followed.values().for_each(|f| f.publisher.fail(&error));
            tokio::time::sleep(delay).await;
        }
    }

    /// Follows what is watched now, and nothing else. What goes on being watched keeps its view.
    fn take_over(&mut self) {
        let wanted = self.inner.subscriptions.current();
        self.followed.retain(|service, f| wanted.get(service).is_some_and(|(number, _)| *number == f.number));
        for (service, (number, publisher)) in wanted {
            let options = &self.inner.options;
            let new = || Followed { number, publisher, view: View::new(&options.env, options.grace) };
            self.followed.entry(service).or_insert_with(new);
        }
    }

    /// Whether what is watched is what is followed.
    fn is_current(&self) -> bool {
        let wanted = self.inner.subscriptions.current();
        let followed = self.followed.iter().map(|(service, f)| (service, f.number));
        wanted.iter().map(|(service, (number, _))| (service, *number)).eq(followed)
    }

    /// Follows over one stream. `Ok` means that other services are watched now.
    async fn stream(&mut self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let options = &inner.options;
        let services = self.followed.iter_mut().map(|(service, f)| f.view.subscription(service)).collect();
        let request = WatchRequest {
            namespace: options.namespace.clone(),
            env: options.env.clone(),
            services,
            ..Default::default()
        };
        let (_, client) = inner.nodes.current();
        let cx = Context::background();
        let messages = tokio::time::timeout(options.attempt_timeout, client.watch(&cx, request)).await;
        let mut messages = messages.map_err(|_| silent(options.attempt_timeout))??;
        let mut heard = inner.clock.now();
        loop {
            let timer = self.followed.values().filter_map(|f| f.view.timer()).min();
            let idle = heard + options.watch_idle;
            tokio::select! {
                message = messages.message() => {
                    let message = message?.ok_or_else(|| Error::unavailable("the registry ended the watch"))?;
                    heard = inner.clock.now();
                    self.apply(message, heard)?;
                }
                () = inner.subscriptions.changed() => if !self.is_current() {
                    return Ok(());
                },
                () = tokio::time::sleep_until(timer.map_or(idle, |timer| timer.min(idle))) => {
                    let now = inner.clock.now();
                    if now >= idle {
                        return Err(silent(options.watch_idle));
                    }
                    for f in self.followed.values_mut() {
                        if f.view.tick(now) {
                            f.view.publish(&f.publisher);
                        }
                    }
                }
            }
        }
    }

    fn apply(&mut self, message: WatchResponse, now: Instant) -> Result<()> {
        let Some(followed) = self.followed.get_mut(message.service.as_str()) else { return Ok(()) };
        if followed.view.apply(message, now)? {
            followed.view.publish(&followed.publisher);
            self.backoff.reset();
        }
        Ok(())
    }
}

fn silent(time: std::time::Duration) -> Error {
    Error::deadline_exceeded(format!("the registry was silent for {time:?}"))
}
