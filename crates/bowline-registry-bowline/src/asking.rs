//! What waits for the keep-alive stream: registrations, slots, and slots that are to be let go.

use bowline_core::{Error, Result};
use bowline_rpc::codegen::buffa::Message;
use tokio::sync::oneshot;

use crate::api::bowline::registry::v1::{LeaseSlotRequest, RegisterRequest, ReleaseSlotRequest};
use crate::keeper::Hold;

/// The most registrations in one message.
const REGISTRATIONS: usize = 500;
/// The most slots in one message, and the most that are let go: what a registry takes.
const SLOTS: usize = 100;
/// The most bytes of each kind in one message, and so of one thing: a registry takes 4 MiB in a message, and with more the stream
/// would break, for all.
const BYTES: usize = 1024 * 1024;

/// Somebody waits for an answer.
#[derive(Debug)]
struct Asked<Q, A> {
    request: Q,
    answer: oneshot::Sender<Result<A>>,
}

/// What is asked of one kind, in order. Who gave up has closed its end.
#[derive(Debug)]
pub(crate) struct Queue<Q, A>(Vec<Asked<Q, A>>);

impl<Q, A> Default for Queue<Q, A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<Q: Message + Clone, A> Queue<Q, A> {
    /// Asks for something.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is too large to be asked.
    pub(crate) fn push(&mut self, request: Q) -> Result<oneshot::Receiver<Result<A>>> {
        let bytes = request.encoded_len() as usize;
        if bytes > BYTES {
            return Err(Error::invalid_argument(format!(
                "{bytes} bytes are too much to be told to the registry; at most {BYTES}"
            )));
        }
        let (answer, answered) = oneshot::channel();
        self.0.push(Asked { request, answer });
        Ok(answered)
    }

    /// The requests, as they are sent.
    pub(crate) fn requests(&self) -> Vec<Q> {
        self.0.iter().map(|asked| asked.request.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes as many as one message has room for.
    fn take(&mut self, most: usize) -> Self {
        self.0.retain(|asked| !asked.answer.is_closed());
        let mut bytes = 0;
        let fits = self.0.iter().take(most).take_while(|asked| {
            bytes += asked.request.encoded_len() as usize;
            bytes <= BYTES
        });
        let fits = fits.count();
        Self(self.0.drain(..fits).collect())
    }

    /// Tells each what became of it, in order.
    pub(crate) fn answer<W>(&mut self, answers: Vec<W>, outcome: impl Fn(W) -> Result<A>) {
        for (asked, answer) in self.0.drain(..).zip(answers) {
            // Nobody to tell: it is not wanted any more, and a lease that nobody holds is not renewed.
            let _ = asked.answer.send(outcome(answer));
        }
    }

    fn fail(&mut self, error: &Error) {
        for asked in self.0.drain(..) {
            // Nobody to tell: it is not wanted any more.
            let _ = asked.answer.send(Err(error.again()));
        }
    }
}

/// What is asked over the stream: each registration and each slot of the process once at most.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// Answered without a hold where the lease is the one that is held already.
    pub(crate) registrations: Queue<RegisterRequest, Option<Hold>>,
    pub(crate) slots: Queue<LeaseSlotRequest, (u32, Hold)>,
    pub(crate) releases: Queue<ReleaseSlotRequest, ()>,
}

impl Asking {
    pub(crate) fn is_empty(&self) -> bool {
        self.registrations.len() + self.slots.len() + self.releases.len() == 0
    }

    /// As much as one message has room for.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            registrations: self.registrations.take(REGISTRATIONS),
            slots: self.slots.take(SLOTS),
            releases: self.releases.take(SLOTS),
        }
    }

    /// Tells all who wait that it failed.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.registrations.fail(error);
        self.slots.fail(error);
        self.releases.fail(error);
    }
}
