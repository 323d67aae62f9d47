//! Follows one service for as long as it is watched.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Code, Error, Instant, Result, Rng, SystemRng};
use bowline_discovery::{Backoff, Ledger, Publisher};

use crate::api::{EndpointSlice, Event, Lease, Object, Status};
use crate::client::{Client, FOLLOWED, Kind, Listed};
use crate::stream::Lines;
use crate::view::View;

/// Lists come at least this far apart: where much changes, those in between are left out.
const APART: Duration = Duration::from_millis(50);

pub(crate) struct Source {
    client: Arc<Client>,
    publisher: Publisher,
    service: Arc<str>,
    view: View,
    ledger: Ledger,
    /// Which Kubernetes the last list was of.
    history: Option<String>,
    /// Up to where changes are known.
    version: String,
    /// Whether the last watch came to its end, so that the next one goes on from there.
    is_unbroken: bool,
    /// When leases are looked at next.
    look_at: Instant,
    backoff: Backoff,
}

/// Why there is no more of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Its time was over.
    InTime,
    /// What it begins with is not known any more.
    TooOld,
}

impl Source {
    pub(crate) fn new(client: Arc<Client>, publisher: Publisher) -> Self {
        let options = &client.options;
        let service = Arc::clone(&publisher.current().service);
        Self {
            view: View::new(&service, options),
            ledger: Ledger::new("Kubernetes", options.grace),
            backoff: Backoff::new(options.backoff_first, options.backoff_max),
            service,
            client,
            publisher,
            history: None,
            version: String::new(),
            is_unbroken: false,
            look_at: Instant::now(),
        }
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        let following = Arc::clone(&self.client.following);
        let Ok(_place) = following.try_acquire() else {
            self.publisher.fail(&Error::resource_exhausted(format!(
                "{FOLLOWED} services are followed in Kubernetes, which is as many as there is room for"
            )));
            // In turn; whoever watches is told so much.
            let _place = following.acquire().await;
            return self.follow().await;
        };
        self.follow().await;
    }

    async fn follow(&mut self) {
        loop {
            match self.round().await {
                Ok(ended) => {
                    self.is_unbroken = ended == Ended::InTime;
                    tracing::debug!(?ended, service = %self.service, "a watch of Kubernetes is over; beginning another");
                    tokio::time::sleep(APART + SystemRng.jitter(APART)).await;
                }
                Err(error) => {
                    self.is_unbroken = false;
                    let delay = self.backoff.next(&SystemRng);
                    tracing::debug!(%error, ?delay, service = %self.service, "watching Kubernetes failed; trying again");
                    self.publisher.fail(&error);
                    tokio::time::sleep(delay).await;
                    self.ledger.tick(Instant::now());
                }
            }
        }
    }

    /// One watch, after a list where it does not go on from the one before.
    async fn round(&mut self) -> Result<Ended> {
        let history = self.client.history().await?;
        if !self.is_unbroken || self.history.as_ref() != Some(&history) {
            self.list(history).await?;
        }
        let half = self.client.options.watch / 2;
        // Who began together does not begin again together.
        let lasts = Duration::from_secs((half + SystemRng.jitter(half)).as_secs().max(1));
        let client = Arc::clone(&self.client);
        let mut lines = match client.watch(&self.service, &self.version, lasts).await {
            Err(error) if error.code() == Code::OutOfRange => return Ok(Ended::TooOld),
            lines => lines?,
        };
        self.backoff.reset();
        self.changes(&mut lines, Instant::now() + lasts + client.options.attempt_timeout).await
    }

    async fn list(&mut self, history: String) -> Result<()> {
        let listed: Listed<EndpointSlice> = self.client.list(Kind::Slice, &self.service).await?;
        let is_continued = match &self.history {
            None => true,
            Some(known) => *known == history && !is_earlier(&listed.version, &self.version),
        };
        let now = Instant::now();
        self.view.replace(&listed.items, now);
        self.view.leases.refresh(now);
        if !self.view.leases.is_empty() {
            self.look().await?;
        }
        if is_continued {
            self.publish();
        } else {
            self.ledger.begin_anew(self.view.current(now).instances, now);
            self.ledger.publish(&self.publisher);
        }
        (self.history, self.version) = (Some(history), listed.version);
        Ok(())
    }

    /// Looks at the leases.
    async fn look(&mut self) -> Result<()> {
        let leases: Listed<Lease> = self.client.list(Kind::Lease, &self.service).await?;
        let now = Instant::now();
        self.view.look(&leases.items, now);
        self.look_at = now + self.view.leases.every();
        Ok(())
    }

    /// Tells what a list or changes came to that continue what was known. The last one that goes was removed, unless it died.
    fn publish(&mut self) {
        let current = self.view.current(Instant::now());
        let gone = self.ledger.replace(current.instances);
        if self.ledger.is_empty() && gone.iter().any(|name| !current.died.contains(name)) {
            self.ledger.was_emptied();
        }
        self.ledger.publish(&self.publisher);
    }

    /// Takes changes until there are no more of this watch.
    async fn changes(&mut self, lines: &mut Lines, until: Instant) -> Result<Ended> {
        let mut publish_at = None;
        loop {
            let look_at = (!self.view.leases.is_empty()).then_some(self.look_at);
            let timers = [publish_at, look_at, self.ledger.timer()];
            let wake = timers.into_iter().flatten().fold(until, Instant::min);
            tokio::select! {
                line = lines.next() => {
                    let Some(line) = line? else {
                        self.publish();
                        return Ok(Ended::InTime);
                    };
                    match self.take(&line)? {
                        Taken::Nothing => {}
                        Taken::Change => publish_at = publish_at.or(Some(Instant::now() + APART)),
                        Taken::TooOld => return Ok(Ended::TooOld),
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if now >= until {
                        return Err(Error::deadline_exceeded("Kubernetes did not end a watch in time"));
                    }
                    if look_at.is_some_and(|at| at <= now) {
                        self.look().await?;
                        publish_at = Some(now);
                    }
                    if self.ledger.tick(now) || publish_at.is_some_and(|at| at <= now) {
                        publish_at = None;
                        self.publish();
                    }
                }
            }
        }
    }

    /// Takes one line of a watch.
    fn take(&mut self, line: &[u8]) -> Result<Taken> {
        if line.trim_ascii().is_empty() {
            return Ok(Taken::Nothing);
        }
        let event: Event<'_> = read(line)?;
        let object = event.object.get().as_bytes();
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => {
                let slice: EndpointSlice = read(object)?;
                self.view.set(&slice, Instant::now());
                self.version = slice.metadata.resource_version;
                Ok(Taken::Change)
            }
            "DELETED" => {
                let slice: Object = read(object)?;
                self.view.remove(&slice.metadata.name);
                self.version = slice.metadata.resource_version;
                Ok(Taken::Change)
            }
            "BOOKMARK" => {
                self.version = read::<Object>(object)?.metadata.resource_version;
                Ok(Taken::Nothing)
            }
            "ERROR" => {
                let status: Status = read(object)?;
                match status.code {
                    410 => Ok(Taken::TooOld),
                    _ => Err(Error::unavailable(format!("Kubernetes ended the watch: {}", status.message))),
                }
            }
            // Of a newer version; lists repeat what it may have said.
            _ => Ok(Taken::Nothing),
        }
    }
}

/// What a line came to.
#[derive(Debug)]
enum Taken {
    Nothing,
    Change,
    TooOld,
}

fn read<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    serde_json::from_slice(text)
        .map_err(|e| Error::unavailable(format!("Kubernetes' watch is not understood: {e}")).with_source(e))
}

/// Whether a version is of an earlier state: they are numbers that grow, which Kubernetes 1.35 promised.
fn is_earlier(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
}
