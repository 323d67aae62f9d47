//! Follows one service for as long as it is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bowline_core::{Error, Instance, Instant};
use bowline_discovery::{Ledger, Publisher};
use tokio::sync::watch;

use crate::apps::Apps;
use crate::options::Options;
use crate::poller::News;

pub(crate) struct Source {
    news: watch::Receiver<News>,
    publisher: Publisher,
    service: Arc<str>,
    app: String,
    env: String,
    ledger: Ledger,
    known: BTreeSet<String>,
}

impl Source {
    pub(crate) fn new(news: watch::Receiver<News>, options: &Options, publisher: Publisher) -> Self {
        let service = Arc::clone(&publisher.current().service);
        Self {
            news,
            publisher,
            app: service.to_lowercase(),
            service,
            env: options.env.clone(),
            ledger: Ledger::new("Eureka", options.grace),
            known: BTreeSet::new(),
        }
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let News { apps, fault } = self.news.borrow_and_update().clone();
            match (apps, fault) {
                (_, Some(fault)) => self.publisher.fail(&Error::unavailable(fault.to_string())),
                (Some(apps), None) => self.take(&apps),
                (None, None) => {}
            }
            self.wait().await;
        }
    }

    /// Waits for news, and lets the grace end meanwhile.
    async fn wait(&mut self) {
        let timer = async |timer: Option<Instant>| match timer {
            Some(timer) => tokio::time::sleep_until(timer).await,
            None => std::future::pending().await,
        };
        tokio::select! {
            changed = self.news.changed() => if changed.is_err() {
                // The registry is gone, and this with it.
                std::future::pending::<()>().await;
            },
            () = timer(self.ledger.timer()) => {
                let is_current = self.news.borrow().fault.is_none();
                if self.ledger.tick(Instant::now()) && is_current {
                    self.ledger.publish(&self.publisher);
                }
            }
        }
    }

    fn take(&mut self, apps: &Apps) {
        let app = apps.app(&self.app);
        let mut usable = BTreeMap::<String, Instance>::new();
        for (id, told) in &*app {
            match told.decode(&self.service, &self.env) {
                Ok(Some(instance)) => {
                    usable.insert(id.clone(), instance);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(service = %self.service, %id, %error, "an instance in Eureka cannot be used");
                }
            }
        }
        let names = usable.keys().cloned().collect();
        let before = std::mem::replace(&mut self.known, names);
        let gone: Vec<_> = before.iter().filter(|id| !app.contains_key(*id)).collect();
        // A server tells for some minutes who went. Who is missing without a word is known to another server, or to one before it
        // began anew.
        if gone.iter().any(|id| apps.gone(&self.app, id).is_none()) {
            self.ledger.begin_anew(usable, Instant::now());
        } else {
            self.ledger.replace(usable);
            if self.ledger.is_empty() && gone.iter().any(|id| apps.gone(&self.app, id) == Some(true)) {
                self.ledger.was_emptied();
            }
        }
        self.ledger.publish(&self.publisher);
    }
}
