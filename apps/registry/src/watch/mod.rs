//! What watchers are sent.

mod admission;
mod fanout;
mod large;
mod pace;
mod prepared;

use std::sync::Arc;

use bowline_core::{Result, WrapErr};
use bowline_registry_bowline::api::bowline::registry::v1::{WatchRequest, WatchResponse, registry_error};
use bowline_registry_bowline::names::{canonical, is_prefix};
use bowline_rpc::{Encoded, Streaming};
use tokio::time::Instant;

pub(crate) use admission::{Admission, Admitted};
use fanout::Service;
pub(crate) use fanout::{Fanout, Following, Watching};
pub(crate) use large::bounded;
pub(crate) use pace::Pace;
use prepared::{Position, Snapshot, Told};

use crate::node::Shared;
use crate::store::{ServiceKey, check_scope};
use crate::wire;

/// Answers a watch request. Nothing runs in the background: the stream looks for news when it is read.
pub(crate) fn watch(shared: &Arc<Shared>, request: &WatchRequest) -> Result<Streaming<WatchResponse>> {
    let (keys, known) = named(shared, request)?;
    let following = following(shared, request)?;
    let watching = shared.fanout.watch(keys)?;
    if let Some(following) = following.clone() {
        watching.follow(following.clone(), || {
            let services = shared.store().services(&following.namespace, &following.env);
            services.into_iter().map(|summary| summary.key).filter(|key| following.takes(key)).collect()
        });
        if watching.is_overflown() {
            let most = following.most;
            return Err(invalid(format!("more than {most} services begin like this; use longer prefixes")));
        }
    }
    let unsynced = following.map(|_| (watching.services().len(), watching.services().len()));
    let state = Watch {
        shared: Arc::clone(shared),
        watching,
        known,
        unsynced,
        sending: None,
        told_at: None,
        rest_until: None,
    };
    Ok(Streaming::encoded(futures_util::stream::try_unfold(state, |mut state| async move {
        let response = state.next().await?;
        Ok(Some((response, state)))
    })))
}

fn invalid(what: String) -> bowline_core::Error {
    registry_error::invalid_request().with_message(what)
}

/// The services that a request names, and what the watcher knows of each.
fn named(shared: &Shared, request: &WatchRequest) -> Result<(Vec<ServiceKey>, Vec<Known>)> {
    let most = shared.config.limits.services_per_watch;
    let services = request.services.len();
    if (services == 0 && request.prefixes.is_empty()) || services > most || request.prefixes.len() > most {
        return Err(invalid(format!(
            "a watch of {services} services; name at least one or a prefix, and at most {most} per stream"
        )));
    }
    let (mut keys, mut known) = (Vec::new(), Vec::new());
    for subscription in &request.services {
        let key = ServiceKey::new(&request.namespace, &request.env, &subscription.service)
            .context("watching services")?;
        if keys.contains(&key) {
            return Err(invalid(format!(
                "`{}` is named twice in one watch; name it once",
                subscription.service
            )));
        }
        keys.push(key);
        known.push(match subscription.epoch {
            0 => Known::Nothing,
            epoch if epoch == shared.epoch => Known::Resumed(subscription.revision),
            _ => Known::OtherEpoch,
        });
    }
    Ok((keys, known))
}

/// The prefixes that a request names, if it does.
fn following(shared: &Shared, request: &WatchRequest) -> Result<Option<Following>> {
    if request.prefixes.is_empty() {
        return Ok(None);
    }
    check_scope(&request.namespace, &request.env)?;
    for prefix in &request.prefixes {
        if !is_prefix(prefix) {
            let shown: String = prefix.chars().take(80).collect();
            return Err(registry_error::invalid_name().with_message(format!(
                "no service begins with `{shown}`: use a-z, A-Z, 0-9, `-`, `_` and `.`, not starting with `.`"
            )));
        }
    }
    Ok(Some(Following {
        namespace: canonical(&request.namespace).into(),
        env: canonical(&request.env).into(),
        prefixes: request.prefixes.clone(),
        named: request.services.len(),
        most: shared.config.limits.services_per_watch,
    }))
}

/// What a watcher knows of a service.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    /// Nothing; its number was another one's before, of which all was said.
    Another,
    /// Something of another life of this node, or of another node.
    OtherEpoch,
    /// This revision, though SYNCED has not been said on this stream.
    Resumed(u64),
    /// This revision.
    Synced(u64),
}

/// What is being sent; the rest of it makes no difference to newer news, which wait their turn.
enum Sending {
    List {
        key: ServiceKey,
        next: usize,
        with_removed: bool,
        admitted: Admitted<Snapshot>,
    },
    /// Only SYNCED is missing.
    Synced(ServiceKey, Position),
}

struct Watch {
    shared: Arc<Shared>,
    watching: Watching,
    known: Vec<Known>,
    /// Of the services there were at first, how many there were, and of how many SYNCED has not been said. Only for who
    /// follows prefixes: nobody else is told when that is all.
    unsynced: Option<(usize, usize)>,
    sending: Option<Sending>,
    /// When something was told, if that was after the watcher last had all there was.
    told_at: Option<Instant>,
    /// Until then it is left alone, so that what changes meanwhile goes out together.
    rest_until: Option<Instant>,
}

impl Watch {
    async fn next(&mut self) -> Result<Encoded<WatchResponse>> {
        let heartbeat = Instant::now() + self.shared.config.heartbeat;
        loop {
            if let Some(response) = self.send()? {
                self.told_at = Some(Instant::now());
                return Ok(response);
            }
            if self.unsynced.is_some_and(|(_, left)| left == 0) {
                self.unsynced = None;
                return Ok(Encoded::new(&wire::all_synced(self.shared.epoch, self.shared.is_settling())));
            }
            if let Some(until) = self.rest_until {
                tokio::select! {
                    biased;
                    error = self.shared.closed() => return Err(error),
                    () = tokio::time::sleep_until(until) => self.rest_until = None,
                }
            }
            if self.watching.is_overflown() {
                return Err(bowline_core::Error::unavailable(
                    "the services under these prefixes became too many for this stream; watch again",
                ));
            }
            if let Some((number, service, is_another)) = self.watching.take_prepared() {
                if let Some(known) = self.known.get_mut(number).filter(|_| is_another) {
                    *known = Known::Another;
                }
                if let Some(response) = self.look(number, service)? {
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
                () = tokio::time::sleep_until(heartbeat) => {
                    return Ok(Encoded::new(&wire::heartbeat(self.shared.epoch)));
                }
            }
        }
    }

    /// The next message of what is being sent.
    fn send(&mut self) -> Result<Option<Encoded<WatchResponse>>> {
        let (key, position) = match self.sending.take() {
            None => return Ok(None),
            Some(Sending::Synced(key, position)) => (key, position),
            Some(Sending::List { key, next, with_removed, admitted }) => {
                let snapshot = admitted.get()?;
                if let Some(message) = snapshot.message(next, with_removed) {
                    self.sending = Some(Sending::List { key, next: next + 1, with_removed, admitted });
                    return Ok(Some(message));
                }
                (key, snapshot.position)
            }
        };
        Ok(Some(self.synced(&key, position)))
    }

    fn synced(&self, key: &ServiceKey, position: Position) -> Encoded<WatchResponse> {
        let Position { revision, digest, empty } = position;
        Encoded::new(&WatchResponse {
            service: key.service().into(),
            epoch: self.shared.epoch,
            revision,
            digest,
            empty: empty.into(),
            event: Some(wire::synced(self.shared.is_settling())),
            ..Default::default()
        })
    }

    /// Looks for news of a service; returns its first message or puts it where [`Watch::send`] finds it.
    fn look(&mut self, service: usize, (key, prepared): Service) -> Result<Option<Encoded<WatchResponse>>> {
        if self.known.len() <= service {
            self.known.resize(service + 1, Known::Nothing);
        }
        let known = self.known.get(service).copied().unwrap_or(Known::Nothing);
        let (revision, was_synced, with_removed) = match known {
            Known::Nothing | Known::Another => (None, false, false),
            Known::OtherEpoch => (None, false, true),
            Known::Resumed(revision) => (Some(revision), false, false),
            Known::Synced(revision) => (Some(revision), true, false),
        };
        let told = prepared.news(&self.shared, &key, revision);
        let (position, message) = match told {
            Told::Nothing => return Ok(None),
            Told::Synced(_) if was_synced => return Ok(None),
            // Resumed at the very revision: only the word that it is so.
            Told::Synced(position) => (position, Some(self.synced(&key, position))),
            Told::Delta(position, message) => {
                if !was_synced {
                    self.sending = Some(Sending::Synced(key, position));
                }
                (position, Some(message))
            }
            Told::Snapshot(snapshot) => {
                let (position, bytes) = (snapshot.position, snapshot.bytes());
                let admitted = self.shared.admission.admit(snapshot, bytes, self.shared.now())?;
                self.sending = Some(Sending::List { key, next: 0, with_removed, admitted });
                (position, None)
            }
        };
        if let Some(known) = self.known.get_mut(service) {
            *known = Known::Synced(position.revision);
        }
        if let Some((first, left)) = &mut self.unsynced
            && service < *first
            && !was_synced
            && !matches!(known, Known::Another)
        {
            *left -= 1;
        }
        Ok(message)
    }
}
