//! An answer that has to be complete in time.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bowline_core::{BoxError, Error, Instant};
use bowline_rpc::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};

/// A body that breaks at a deadline: for a time that is the policy's and not the caller's, who bounds its own.
pub(crate) struct Timed {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl Timed {
    pub(crate) fn new(body: Body, deadline: Instant) -> Self {
        Self { body, deadline: Box::pin(sleep_until(deadline)) }
    }
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(task) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let late = || Error::deadline_exceeded("the answer was not complete in the operation's time");
        self.deadline.as_mut().poll(task).map(|()| Some(Err(late().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
