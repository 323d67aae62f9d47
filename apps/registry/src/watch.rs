//! What one watcher is sent.

use std::sync::Arc;

use bowline_core::{Result, WrapErr};
use bowline_registry_bowline::api::bowline::registry::v1::watch_response::Event;
use bowline_registry_bowline::api::bowline::registry::v1::{WatchRequest, WatchResponse, registry_error};
use bowline_rpc::Streaming;
use tokio::time::Instant;

use crate::fanout::Watching;
use crate::node::Shared;
use crate::store::{News, ServiceKey};
use crate::wire::{self, Parts};

/// Answers a watch request. Nothing runs in the background: the stream looks for news when it is read.
pub(crate) fn watch(shared: &Arc<Shared>, request: &WatchRequest) -> Result<Streaming<WatchResponse>> {
    let most = shared.config.limits.services_per_watch;
    if request.services.is_empty() || request.services.len() > most {
        let message = format!(
            "a watch of {} services; name at least one, and at most {most} per stream",
            request.services.len()
        );
        return Err(registry_error::invalid_request().with_message(message));
    }
    let (mut keys, mut known) = (Vec::new(), Vec::new());
    for subscription in &request.services {
        let key = ServiceKey::new(&request.namespace, &request.env, &subscription.service)
            .context("watching services")?;
        if keys.contains(&key) {
            let message = format!("`{}` is named twice in one watch; name it once", subscription.service);
            return Err(registry_error::invalid_request().with_message(message));
        }
        keys.push(key);
        known.push(match subscription.epoch {
            0 => Known::Nothing,
            epoch if epoch == shared.epoch => Known::Resumed(subscription.revision),
            _ => Known::OtherEpoch,
        });
    }
    let watching = shared.fanout.watch(keys)?;
    let state =
        Watch { shared: Arc::clone(shared), watching, known, sending: None, told_at: None, rest_until: None };
    Ok(Streaming::new(futures_util::stream::try_unfold(state, |mut state| async move {
        let response = state.next().await?;
        Ok(Some((response, state)))
    })))
}

/// What a watcher knows of a service.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    /// Something of another life of this node, or of another node.
    OtherEpoch,
    /// This revision, though SYNCED has not been said on this stream.
    Resumed(u64),
    /// This revision.
    Synced(u64),
}

/// What is being sent; the rest of it makes no difference to newer news, which wait their turn.
enum Sending {
    List(usize, Parts),
    /// Only SYNCED is missing, with the numbers of the message before.
    Synced(Box<WatchResponse>),
}

struct Watch {
    shared: Arc<Shared>,
    watching: Watching,
    known: Vec<Known>,
    sending: Option<Sending>,
    /// When something was told, if that was after the watcher last had all there was.
    told_at: Option<Instant>,
    /// Until then it is left alone, so that what changes meanwhile goes out together.
    rest_until: Option<Instant>,
}

impl Watch {
    async fn next(&mut self) -> Result<WatchResponse> {
        let heartbeat = Instant::now() + self.shared.config.heartbeat;
        loop {
            if let Some(response) = self.send() {
                self.told_at = Some(Instant::now());
                return Ok(response);
            }
            if let Some(until) = self.rest_until {
                tokio::select! {
                    biased;
                    error = self.shared.closed() => return Err(error),
                    () = tokio::time::sleep_until(until) => self.rest_until = None,
                }
            }
            if let Some(service) = self.watching.take() {
                if let Some(response) = self.look(service) {
                    self.told_at = Some(Instant::now());
                    return Ok(response);
                }
                continue;
            }
            // It has all there is. What comes closely after that waits for what comes with it.
            let pause = self.told_at.take().map(|at| at + self.shared.pause());
            tokio::select! {
                biased;
                error = self.shared.closed() => return Err(error),
                () = self.watching.news() => self.rest_until = pause.filter(|until| *until > Instant::now()),
                () = tokio::time::sleep_until(heartbeat) => return Ok(wire::heartbeat(self.shared.epoch)),
            }
        }
    }

    /// The next message of what is being sent.
    fn send(&mut self) -> Option<WatchResponse> {
        match self.sending.take()? {
            Sending::List(service, mut parts) => {
                let name = self.watching.services().get(service)?.service();
                let event = match parts.next() {
                    Some(part) => Event::Snapshot(Box::new(part)),
                    None => wire::synced(self.shared.is_settling()),
                };
                let response = wire::of_list(name, self.shared.epoch, parts.list(), event);
                if !matches!(response.event, Some(Event::Synced(_))) {
                    self.sending = Some(Sending::List(service, parts));
                }
                Some(response)
            }
            Sending::Synced(mut response) => {
                response.event = Some(wire::synced(self.shared.is_settling()));
                Some(*response)
            }
        }
    }

    /// Looks for news of a service; returns its first message or puts it where [`Watch::send`] finds it.
    fn look(&mut self, service: usize) -> Option<WatchResponse> {
        let key = self.watching.services().get(service)?;
        let known = self.known.get_mut(service)?;
        let (revision, was_synced, foreign) = match *known {
            Known::Nothing => (None, false, false),
            Known::OtherEpoch => (None, false, true),
            Known::Resumed(revision) => (Some(revision), false, false),
            Known::Synced(revision) => (Some(revision), true, false),
        };
        let (epoch, name) = (self.shared.epoch, key.service());
        let mut store = self.shared.store();
        match store.news(key, revision) {
            News::None if was_synced => None,
            News::None => {
                // Resumed at the very revision: only the word that it is so.
                let News::List(list) = store.news(key, None) else { return None };
                *known = Known::Synced(list.revision);
                Some(wire::of_list(name, epoch, &list, wire::synced(self.shared.is_settling())))
            }
            News::Changes(changes) => match wire::delta(name, epoch, &changes) {
                Some(response) => {
                    *known = Known::Synced(changes.revision);
                    if !was_synced {
                        let synced = WatchResponse { event: None, ..response.clone() };
                        self.sending = Some(Sending::Synced(Box::new(synced)));
                    }
                    Some(response)
                }
                None => {
                    let News::List(list) = store.news(key, None) else { return None };
                    *known = Known::Synced(list.revision);
                    self.sending = Some(Sending::List(service, Parts::new(list, false)));
                    None
                }
            },
            News::List(list) => {
                *known = Known::Synced(list.revision);
                self.sending = Some(Sending::List(service, Parts::new(list, foreign)));
                None
            }
        }
    }
}
