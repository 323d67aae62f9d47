//! Follows one service for as long as it is watched.

use std::sync::Arc;

use bowline_core::{Error, Instant, Result, SystemRng};
use bowline_discovery::{Backoff, Publisher};
use futures_util::future::select_all;
use tokio::sync::watch;

use crate::convert::{self, Read};
use crate::registry::Lane;
use crate::session::{Known, Session};
use crate::view::View;

pub(crate) struct Source {
    lane: Arc<Lane>,
    publisher: Publisher,
    view: View,
    service: Arc<str>,
    backoff: Backoff,
}

impl Source {
    pub(crate) fn new(lane: Arc<Lane>, publisher: Publisher) -> Self {
        let options = lane.options();
        let backoff = Backoff::new(options.backoff_first, options.backoff_max);
        let view = View::new(options.grace);
        let service = Arc::clone(&publisher.current().service);
        Self { view, service, backoff, lane, publisher }
    }

    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let Err(error) = self.session().await;
            let delay = self.backoff.next(&SystemRng);
            tracing::debug!(%error, ?delay, "watching Nacos failed; trying again");
            self.publisher.fail(&error);
            tokio::time::sleep(delay).await;
        }
    }

    /// Lists, and follows the changes from there on, over one connection.
    async fn session(&mut self) -> Result<std::convert::Infallible> {
        let session = self.lane.session().await?;
        let mut known = Vec::new();
        for name in convert::names(&self.service) {
            known.push(session.subscribe(&name).await?);
        }
        let listed = self.read(&mut known);
        self.view.connected(listed, Instant::now());
        self.backoff.reset();
        loop {
            self.view.publish(&self.publisher);
            if self.wait(&session, &mut known).await? {
                let listed = self.read(&mut known);
                self.view.changed(listed);
            }
            self.view.tick(Instant::now());
        }
    }

    /// Waits until there is something to do; returns whether Nacos told something.
    async fn wait(&self, session: &Session, known: &mut [watch::Receiver<Known>]) -> Result<bool> {
        let timer = self.view.timer();
        let over = async {
            match timer {
                Some(timer) => tokio::time::sleep_until(timer).await,
                None => std::future::pending().await,
            }
        };
        let news = select_all(known.iter_mut().map(|known| Box::pin(known.changed())));
        tokio::select! {
            biased;
            () = session.ended() => Err(Error::unavailable("the connection to Nacos has ended")),
            (told, ..) = news => match told {
                Ok(()) => Ok(true),
                Err(_) => Err(Error::unavailable("the subscription has ended")),
            },
            () = over => Ok(false),
        }
    }

    /// What Nacos told last under all names.
    fn read(&self, known: &mut [watch::Receiver<Known>]) -> Vec<Read> {
        let mut all = Vec::new();
        for known in known {
            let Some(info) = known.borrow_and_update().clone() else { continue };
            for host in &info.hosts {
                match convert::read(host, &self.service, &self.lane.options().env) {
                    Ok(read) => all.extend(read),
                    Err(error) => {
                        tracing::warn!(service = %info.name, ip = host.ip, port = host.port, %error,
                            "an instance in Nacos cannot be used");
                    }
                }
            }
        }
        all
    }
}
