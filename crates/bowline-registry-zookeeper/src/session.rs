//! The session of a process: one connection at a time, made again for ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_core::{Error, Instant, Result, Rng, SystemRng};
use bowline_discovery::Backoff;
use tokio::sync::{mpsc, watch};

use crate::connection::{self, Greeted};
use crate::link::{Link, QUEUE};
use crate::options::Options;
use crate::wire::Ticket;

/// How many earlier sessions are remembered: each could have left nodes for its time.
const EARLIER: usize = 16;

/// What users see of a session.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) link: Option<Arc<Link>>,
    /// Why there is none.
    pub(crate) fault: Option<Arc<str>>,
    /// The session's number; 0 before the first one and once it is over.
    pub(crate) session: i64,
}

pub(crate) struct Session {
    members: Vec<(String, u16)>,
    options: Options,
    state: watch::Sender<State>,
    earlier: Mutex<Vec<i64>>,
    is_running: AtomicBool,
}

impl Session {
    pub(crate) fn new(members: Vec<(String, u16)>, options: Options) -> Self {
        let (state, earlier) = (watch::Sender::default(), Mutex::default());
        Self { members, options, state, earlier, is_running: AtomicBool::new(false) }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Follows the session, and begins one if there is none yet.
    pub(crate) fn follow(self: &Arc<Self>, tasks: &Tracker) -> watch::Receiver<State> {
        if !self.is_running.swap(true, Ordering::Relaxed) {
            let session = Arc::clone(self);
            tasks.spawn(async move { session.run().await });
        }
        self.state.subscribe()
    }

    /// Whether a session was one of this process.
    pub(crate) fn is_ours(&self, session: i64) -> bool {
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        session != 0 && (self.state.borrow().session == session || earlier.contains(&session))
    }

    fn remember(&self, session: i64) {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        if earlier.len() == EARLIER {
            earlier.remove(0);
        }
        earlier.push(session);
    }

    /// Keeps a session for ever.
    async fn run(&self) {
        let mut backoff = Backoff::new(self.options.backoff_first, self.options.backoff_max);
        let mut life = Life {
            ticket: Ticket::default(),
            timeout: self.options.ttl,
            last_zxid: 0,
            heard: Instant::now(),
        };
        // Who starts together does not ask the same member.
        let mut turn = usize::try_from(SystemRng.next_u64() >> 33).unwrap_or_default();
        loop {
            let member = &self.members[turn % self.members.len()];
            turn = turn.wrapping_add(1);
            let Err(error) = self.attempt(member, &mut life, &mut backoff).await;
            if life.ticket.id != 0 && life.heard.elapsed() > life.timeout {
                // By now a server that runs has ended it. One that lost its data refuses whoever has seen later changes than it.
                self.over(&mut life);
            }
            let delay = backoff.next(&SystemRng);
            tracing::debug!(%error, ?delay, "the connection to ZooKeeper failed; trying again");
            self.state
                .send_modify(|state| (state.link, state.fault) = (None, Some(error.to_string().into())));
            tokio::time::sleep(delay).await;
        }
    }

    /// The session has ended.
    fn over(&self, life: &mut Life) {
        tracing::info!("the session at ZooKeeper has ended; beginning another one");
        self.remember(life.ticket.id);
        (life.ticket, life.last_zxid) = (Ticket::default(), 0);
        self.state.send_modify(|state| (state.link, state.session) = (None, 0));
    }

    /// One connection, until it breaks.
    async fn attempt(
        &self,
        member: &(String, u16),
        life: &mut Life,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible> {
        let (connection, ticket) = loop {
            match self.open(member, life).await? {
                Greeted::Session(connection, ticket) => break (connection, ticket),
                // It is asked for a new one then.
                Greeted::Expired if life.ticket.id != 0 => self.over(life),
                Greeted::Expired => return Err(Error::unavailable("ZooKeeper does not begin a session")),
            }
        };
        (life.ticket, life.timeout, life.heard) = (ticket, connection.timeout, Instant::now());
        backoff.reset();
        let (sender, mut calls) = mpsc::channel(QUEUE);
        let link = Arc::new(Link::new(life.ticket.id, sender, self.options.attempt_timeout));
        let state = State { link: Some(Arc::clone(&link)), fault: None, session: life.ticket.id };
        self.state.send_replace(state);
        let _ending = Ending(&link);
        connection.serve(&link, &mut calls, &mut life.last_zxid, &mut life.heard).await
    }

    async fn open(&self, member: &(String, u16), life: &Life) -> Result<Greeted> {
        let timeout = self.options.attempt_timeout;
        let credentials = self.options.credentials.as_ref();
        let opening = connection::open(member, life.last_zxid, self.options.ttl, &life.ticket, credentials);
        let late = |_| {
            let (host, port) = member;
            Error::deadline_exceeded(format!("ZooKeeper at {host}:{port} did not greet within {timeout:?}"))
        };
        tokio::time::timeout(timeout, opening).await.map_err(late)?
    }
}

/// What a session goes on with, over its connections.
struct Life {
    ticket: Ticket,
    timeout: Duration,
    last_zxid: i64,
    heard: Instant,
}

/// Tells the watchers of a connection that it is over, in whatever way.
struct Ending<'a>(&'a Link);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
