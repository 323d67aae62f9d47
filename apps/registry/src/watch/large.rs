//! Large answers: whole lists to who asks once, in whichever protocol.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll, ready};

use bowline_core::{Error, Result};
use bowline_rpc::Body;
use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::admission::Admitted;
use crate::node::Shared;

/// From how many bytes on an answer counts.
const LARGE: u64 = 64 * 1024;
/// The most that is given at a time; it is copied, so that nothing of the answer is held by what waits to be sent.
const AT_A_TIME: usize = 16 * 1024;

/// Lets an answer on its way, if there is room for it or it is small. Those that make their bodies as they are read are small.
///
/// # Errors
/// `TOO_MANY_SNAPSHOTS`, with the time after which to come back.
pub(crate) fn bounded(shared: &Shared, response: Response<Body>) -> Result<Response<Body>> {
    let size = response.body().size_hint().lower();
    if size < LARGE {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let hint = body.size_hint();
    let bytes = usize::try_from(size).unwrap_or(usize::MAX);
    let sent = Arc::new(Mutex::new(Sent { body, rest: Bytes::new() }));
    let admitted = shared.admission.admit(sent, bytes, shared.now())?;
    Ok(Response::from_parts(parts, Body::new(Large { admitted, hint })))
}

/// What is not given yet.
struct Sent {
    body: Body,
    rest: Bytes,
}

/// A body that is held by the budget.
struct Large {
    admitted: Admitted<Mutex<Sent>>,
    /// As it was told at first.
    hint: SizeHint,
}

fn lock(sent: &Mutex<Sent>) -> MutexGuard<'_, Sent> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpBody for Large {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let sent = self.admitted.get()?;
        let mut sent = lock(&sent);
        if sent.rest.is_empty() {
            let frame = ready!(Pin::new(&mut sent.body).poll_frame(task));
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => sent.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = sent.rest.len().min(AT_A_TIME);
        let piece = Bytes::copy_from_slice(&sent.rest.split_to(length));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.admitted.get().is_ok_and(|sent| {
            let sent = lock(&sent);
            sent.rest.is_empty() && HttpBody::is_end_stream(&sent.body)
        })
    }

    fn size_hint(&self) -> SizeHint {
        // What is left matters to nobody once it has begun.
        self.hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Node};

    #[tokio::test]
    async fn a_large_answer_arrives_whole_and_one_beyond_the_budget_is_refused() {
        let mut config = Config::default();
        config.limits.snapshot_bytes = 300_000;
        let node = Node::new(config).unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let answer = || bounded(&node.shared(), Response::new(Body::full(sent.clone())));
        let mut first = answer().unwrap();
        assert_eq!(first.body().size_hint().exact(), Some(200_000), "so that its length is told");
        let error = answer().unwrap_err();
        assert!(error.is_temporary() && error.retry_after().is_some(), "{error}");
        let small = bounded(&node.shared(), Response::new(Body::full("some")));
        assert_eq!(small.unwrap().into_body().collect(10).await.unwrap(), "some");
        assert_eq!(first.body_mut().collect(1 << 20).await.unwrap(), sent);
        drop(first);
        answer().unwrap();
    }
}
