//! The stream of a connection: what a client is told, and how it is known to be there.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Error, Instant, Result, Rng, SystemRng};
use bowline_registry_nacos::api::{
    Body, ClientDetectionRequest, ConnectResetRequest, ConnectionSetupRequest, NotifySubscriberRequest,
    Payload, SetupAckRequest, kind, request_id,
};
use bowline_rpc::Streaming;
use bowline_rpc::codegen::buffa::Message as _;

use super::super::names::Name;
use super::super::registry::{self, Wanted};
use super::connection::{Hub, Place, Published, Subject};
use crate::watch::{Admitted, Watching};

/// How many pushes may wait for their answers; further ones wait for those.
const UNANSWERED: usize = 64;
/// How soon a push is tried again for which there was no room, and up to as much later by chance.
const NO_ROOM: Duration = Duration::from_millis(500);
/// What this server can do of what clients ask for by name.
const ABILITIES: [&str; 3] = ["supportPersistentInstanceByGrpc", "fuzzyWatch", "lock"];

/// Answers a stream. It is a connection from the setup on.
pub(super) fn open(hub: Arc<Hub>, peer: SocketAddr, said: Streaming<Payload>) -> Streaming<Payload> {
    let state = Stage::Waiting { hub, peer, said };
    Streaming::new(futures_util::stream::try_unfold(state, |stage| async move {
        let mut stream = match stage {
            Stage::Waiting { hub, peer, said } => match set_up(hub, peer, said).await? {
                Some(stream) => stream,
                None => return Ok(None),
            },
            Stage::Open(stream) => stream,
        };
        let next = stream.next().await?;
        Ok(next.map(|payload| (payload, Stage::Open(stream))))
    }))
}

/// How far a stream is.
enum Stage {
    Waiting { hub: Arc<Hub>, peer: SocketAddr, said: Streaming<Payload> },
    Open(Box<Stream>),
}

/// Waits for the setup. `None` if the client goes instead.
async fn set_up(
    hub: Arc<Hub>,
    peer: SocketAddr,
    mut said: Streaming<Payload>,
) -> Result<Option<Box<Stream>>> {
    let patience = hub.config.patience;
    let first = tokio::select! {
        biased;
        error = hub.shared.closed() => return Err(error),
        first = tokio::time::timeout(patience, said.message()) => first,
    };
    let Ok(first) = first else {
        return Err(Error::deadline_exceeded(format!("no ConnectionSetupRequest came within {patience:?}")));
    };
    let Some(first) = first? else { return Ok(None) };
    let setup = ConnectionSetupRequest::of(&first)?;
    let place = hub.enter(peer);
    tracing::debug!(%peer, client = setup.client_version, namespace = setup.tenant, "a Nacos client connected");
    let now = hub.shared.now();
    let mut stream = Box::new(Stream {
        renew_at: now + hub.config.lease / 3,
        hub,
        place,
        said,
        watching: None,
        told: BTreeMap::new(),
        queue: VecDeque::new(),
        to_tell: VecDeque::new(),
        sending: None,
        unanswered: VecDeque::new(),
        count: 0,
        told_at: None,
        rest_until: None,
        leaving: None,
    });
    if setup.ability_table.is_some() {
        let ability_table = ABILITIES.iter().map(|ability| ((*ability).to_owned(), false)).collect();
        let ack = SetupAckRequest { request_id: stream.id(), ability_table };
        stream.queue.push_back(ack.payload()?);
    }
    Ok(Some(stream))
}

struct Stream {
    hub: Arc<Hub>,
    place: Place,
    said: Streaming<Payload>,
    watching: Option<Arc<Watching>>,
    /// The revision of each subscription that the client was told last.
    told: BTreeMap<Subject, u64>,
    /// What is to be sent: what concerns the connection, and at most one push.
    queue: VecDeque<Payload>,
    /// The subscriptions to one service that are still to be told of it. A push is made when there is room for it to be sent.
    to_tell: VecDeque<(Subject, Name)>,
    /// The room of the push that was sent last, until the client takes the next.
    sending: Option<Admitted<()>>,
    /// What the client has not answered yet, and until when it may; the oldest first.
    unanswered: VecDeque<(String, Instant)>,
    count: u64,
    renew_at: Instant,
    /// When something was told, if that was after the client last had all there was.
    told_at: Option<Instant>,
    /// Until then the client is left alone, so that what changes meanwhile goes out together.
    rest_until: Option<Instant>,
    /// It was asked to go, and has until then.
    leaving: Option<Instant>,
}

/// What the stream waits for.
enum Event {
    /// What the client said; `None` if it goes.
    Said(Option<Box<Payload>>),
    /// The subscriptions are others than before, or the connection has another stream.
    Changed,
    News,
    Closed,
    Time,
}

impl Stream {
    /// What the client is told next; `None` at the end.
    async fn next(&mut self) -> Result<Option<Payload>> {
        // It has taken what it was sent.
        self.sending = None;
        loop {
            if let Some(payload) = self.queue.pop_front() {
                return Ok(Some(payload));
            }
            if self.look()? {
                continue;
            }
            if self.to_tell.is_empty() {
                // It has all there is. What comes closely after that waits for what comes with it.
                let rest_until = self.told_at.take().map(|at| at + self.hub.shared.pause());
                self.rest_until = self.rest_until.max(rest_until);
            }
            // However much the client says meanwhile.
            if self.wake() <= self.hub.shared.now() && self.leaving.is_none() {
                self.tick()?;
                continue;
            }
            match self.event().await? {
                Event::Said(None) => return Ok(None),
                Event::Said(Some(payload)) => self.answered(&payload),
                Event::Changed if self.place.connection.is_replaced() => return Ok(None),
                Event::Changed => self.follow(),
                Event::News => {}
                Event::Closed => self.leave()?,
                Event::Time if self.leaving.is_some_and(|until| until <= self.hub.shared.now()) => {
                    return Ok(None);
                }
                Event::Time => self.tick()?,
            }
        }
    }

    /// When something is due though nothing happens.
    fn wake(&self) -> Instant {
        let unanswered = self.unanswered.front().map(|(_, until)| *until);
        let detect = self.place.connection.heard_at().map(|heard| heard + self.hub.config.idle);
        let detect = detect.filter(|_| self.unanswered.is_empty());
        let dates = [self.rest_until, self.leaving, unanswered, detect];
        dates.into_iter().flatten().fold(self.renew_at, Instant::min)
    }

    async fn event(&mut self) -> Result<Event> {
        let connection = Arc::clone(&self.place.connection);
        let wake = self.wake();
        let watching = self.watching.clone().filter(|_| self.may_tell());
        let news = async {
            match &watching {
                Some(watching) => watching.news().await,
                None => std::future::pending().await,
            }
        };
        let is_leaving = self.leaving.is_some();
        tokio::select! {
            biased;
            said = self.said.message() => said.map(|said| Event::Said(said.map(Box::new))),
            () = connection.changed.notified() => Ok(Event::Changed),
            _ = self.hub.shared.closed(), if !is_leaving => Ok(Event::Closed),
            () = tokio::time::sleep_until(wake) => Ok(Event::Time),
            () = news => Ok(Event::News),
        }
    }

    /// The client has answered something, whatever it says of it.
    fn answered(&mut self, payload: &Payload) {
        let (now, id) = (self.hub.shared.now(), request_id(payload));
        self.place.connection.heard(now);
        self.unanswered.retain(|(asked, _)| *asked != id);
        if kind(payload) == "ConnectResetResponse" {
            // It connects elsewhere, and ends this; it is not waited for.
            self.leaving = Some(now);
        }
    }

    fn id(&mut self) -> String {
        self.count += 1;
        self.count.to_string()
    }

    /// Sends something that is to be answered.
    fn ask(&mut self, request: impl FnOnce(String) -> Result<Payload>) -> Result<()> {
        let id = self.id();
        self.queue.push_back(request(id.clone())?);
        self.unanswered.push_back((id, self.hub.shared.now() + self.hub.config.patience));
        Ok(())
    }

    /// Asks the client to connect elsewhere.
    fn leave(&mut self) -> Result<()> {
        self.leaving = Some(self.hub.shared.now() + self.hub.config.patience);
        let reset = ConnectResetRequest { request_id: self.id(), ..Default::default() };
        self.queue.push_back(reset.payload()?);
        Ok(())
    }

    /// Follows the subscriptions there are now.
    fn follow(&mut self) {
        self.watching = self.place.connection.watching();
        let watched = self.watching.as_ref().map(|watching| watching.services()).unwrap_or_default();
        let mut subjects: Vec<Subject> = Vec::new();
        for key in watched {
            subjects
                .extend(self.place.connection.subscriptions(&key).into_iter().map(|(subject, _)| subject));
        }
        // What is subscribed to anew is told anew.
        self.told.retain(|subject, _| subjects.contains(subject));
        self.to_tell.retain(|(subject, _)| subjects.contains(subject));
    }

    fn may_tell(&self) -> bool {
        self.unanswered.len() < UNANSWERED && self.leaving.is_none() && self.rest_until.is_none()
    }

    /// Looks for news of a service, and makes the next push. Returns whether there may be more to do.
    fn look(&mut self) -> Result<bool> {
        if !self.may_tell() {
            return Ok(false);
        }
        if let Some((subject, name)) = self.to_tell.pop_front() {
            self.tell(subject, name)?;
            return Ok(true);
        }
        let Some((_, key)) = self.watching.as_ref().and_then(|watching| watching.take()) else {
            return Ok(false);
        };
        self.to_tell.extend(self.place.connection.subscriptions(&key));
        Ok(true)
    }

    fn tell(&mut self, subject: Subject, name: Name) -> Result<()> {
        let key = &subject.0;
        let revision = self.hub.shared.store().position(key).0;
        if self.told.get(&subject) == Some(&revision) {
            return Ok(());
        }
        let wanted = Wanted { clusters: &subject.1, healthy_only: false };
        let (shared, now) = (Arc::clone(&self.hub.shared), self.hub.shared.now());
        let (revision, service_info) = registry::info(&shared, key, &name, wanted);
        let (service_name, group_name) = (name.service.clone(), name.group.clone());
        let namespace = match key.namespace() {
            "default" => "public".to_owned(),
            other => other.to_owned(),
        };
        let request_id = self.id();
        let notify =
            NotifySubscriberRequest { request_id, namespace, service_name, group_name, service_info };
        let push = notify.payload()?;
        let Ok(room) = shared.admission.admit(Arc::new(()), push.encoded_len() as usize, now) else {
            // Too much is on its way to others; it is told what is so by then.
            self.to_tell.push_front((subject, name));
            self.rest_until = Some(now + NO_ROOM + SystemRng.jitter(NO_ROOM));
            return Ok(());
        };
        self.sending = Some(room);
        self.told.insert(subject, revision);
        self.told_at = Some(now);
        self.unanswered.push_back((notify.request_id, now + self.hub.config.patience));
        self.queue.push_back(push);
        Ok(())
    }

    /// Does what is due.
    fn tick(&mut self) -> Result<()> {
        let (now, config) = (self.hub.shared.now(), self.hub.config.clone());
        if self.rest_until.is_some_and(|until| until <= now) {
            self.rest_until = None;
        }
        if let Some((id, _)) = self.unanswered.front().filter(|(_, until)| *until <= now) {
            let patience = config.patience;
            return Err(Error::deadline_exceeded(format!(
                "the client did not answer request {id} within {patience:?}; connect anew"
            )));
        }
        if self.renew_at <= now {
            self.renew(now);
            self.renew_at = now + config.lease / 3;
        }
        let is_silent = self.place.connection.heard_at().is_some_and(|heard| heard + config.idle <= now);
        if is_silent && self.unanswered.is_empty() {
            self.ask(|request_id| ClientDetectionRequest { request_id }.payload())?;
        }
        Ok(())
    }

    /// Renews what the client registered. What ran out, because the client did not read and this was not run in time, is
    /// registered again; what somebody took over or out stays so.
    fn renew(&self, now: Instant) {
        let shared = &self.hub.shared;
        let mut state = self.place.connection.state();
        let mut lost: Vec<Published> = Vec::new();
        shared.change(|store, now| {
            state.published.retain(|(key, id), published| {
                if store.renew(published.lease, now).is_some() {
                    published.renewed = now;
                    return true;
                }
                let has_another =
                    store.instance(key, id).is_some_and(|found| found.holder != self.place.connection.name);
                let ran_out = published.renewed + published.registration.ttl <= now;
                if ran_out && !has_another {
                    lost.push(published.clone());
                }
                false
            });
        });
        for Published { registration, .. } in lost {
            let id = (registration.key.clone(), Arc::clone(registration.record.id()));
            match registration.put(shared) {
                Ok(granted) => {
                    let lease = granted.lease;
                    state.published.insert(id, Published { registration, lease, renewed: now });
                }
                Err(error) => {
                    tracing::warn!(connection = %self.place.connection.name, instance = %id.1, %error,
                        "an instance of a Nacos client ran out and could not be registered again");
                }
            }
        }
    }
}
