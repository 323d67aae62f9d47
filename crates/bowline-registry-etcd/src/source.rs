//! Follows one service for as long as it is watched.

use std::sync::Arc;

use bowline_core::{Context, Error, Instant, Result, SystemRng};
use bowline_discovery::{Backoff, Publisher};
use bowline_rpc::Streaming;

use crate::api::etcdserverpb::__buffa::oneof::watch_request::RequestUnion;
use crate::api::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest};
use crate::client::Client;
use crate::keys;
use crate::view::View;

pub(crate) struct Source {
    client: Arc<Client>,
    publisher: Publisher,
    view: View,
    prefix: Vec<u8>,
    backoff: Backoff,
}

impl Source {
    pub(crate) fn new(client: Arc<Client>, publisher: Publisher) -> Self {
        let options = &client.options;
        let service = Arc::clone(&publisher.current().service);
        let view = View::new(&service, &options.env, options.grace);
        let prefix = keys::prefix(&options.prefix, &service);
        let backoff = Backoff::new(options.backoff_first, options.backoff_max);
        Self { client, publisher, view, prefix, backoff }
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let result = self.stream().await;
            let Err(error) = self.client.judge(result);
            let delay = self.backoff.next(&SystemRng);
            tracing::debug!(%error, ?delay, "watching etcd failed; trying again");
            self.publisher.fail(&error);
            tokio::time::sleep(delay).await;
        }
    }

    /// Lists, and follows the changes from there on.
    async fn stream(&mut self) -> Result<std::convert::Infallible> {
        let client = Arc::clone(&self.client);
        let listed = client.list(&self.prefix).await?;
        let gone = self.view.list(&listed.entries, listed.revision, Instant::now());
        self.tell(&gone).await?;

        let (requests, stream) = Streaming::channel(4);
        requests.try_send(create(&self.prefix, listed.revision + 1))?;
        // The stream outlives the attempt that opens it.
        let cx = Context::background();
        let mut messages = client.attempt(async |_| client.watch.watch(&cx, stream).await).await?;
        self.backoff.reset();
        let idle = client.options.watch_idle;
        let mut heard = Instant::now();
        let mut asked = heard;
        loop {
            let probe = asked + idle / 3;
            let wake = self.view.timer().map_or(probe, |timer| timer.min(probe));
            tokio::select! {
                message = messages.message() => {
                    let message = message?.ok_or_else(|| Error::unavailable("etcd ended the watch"))?;
                    if message.canceled {
                        return Err(cancelled(message.compact_revision, &message.cancel_reason));
                    }
                    heard = Instant::now();
                    if !message.events.is_empty() {
                        let gone = self.view.events(&message.events);
                        self.tell(&gone).await?;
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if now >= heard + idle {
                        return Err(Error::deadline_exceeded(format!("etcd was silent for {idle:?}")));
                    }
                    if now >= probe {
                        requests.try_send(progress())?;
                        asked = now;
                    }
                    if self.view.tick(now) {
                        self.view.publish(&self.publisher);
                    }
                }
            }
        }
    }

    /// Publishes. Where nothing is left, etcd is asked whether the leases of what went still live: then it was removed, and
    /// did not die.
    async fn tell(&mut self, gone: &[i64]) -> Result<()> {
        if self.view.is_empty() {
            for lease in gone {
                if *lease == 0 || self.client.remaining(*lease).await?.is_some() {
                    self.view.was_emptied();
                    break;
                }
            }
        }
        self.view.publish(&self.publisher);
        Ok(())
    }
}

fn create(prefix: &[u8], start_revision: i64) -> WatchRequest {
    let create = WatchCreateRequest {
        key: prefix.to_vec(),
        range_end: keys::end(prefix),
        start_revision,
        ..Default::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(Box::new(create))), ..Default::default() }
}

fn progress() -> WatchRequest {
    let progress = Box::new(WatchProgressRequest::default());
    WatchRequest { request_union: Some(RequestUnion::ProgressRequest(progress)), ..Default::default() }
}

fn cancelled(compacted: i64, reason: &str) -> Error {
    if compacted > 0 {
        return Error::unavailable(format!("etcd has compacted the changes up to revision {compacted} away"));
    }
    let reason = if reason.is_empty() { "without a reason" } else { reason };
    Error::unavailable(format!("etcd cancelled the watch: {reason}"))
}
