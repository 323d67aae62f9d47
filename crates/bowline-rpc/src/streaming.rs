//! A stream of messages.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bowline_core::{Error, Result};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;

use crate::encoded::Encoded;

/// Messages one after the other, from either side of a call. An error is the last item.
///
/// ```
/// use bowline_rpc::Streaming;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut numbers = Streaming::from_iter([1, 2]);
/// assert_eq!(numbers.message().await.unwrap(), Some(1));
/// assert_eq!(numbers.message().await.unwrap(), Some(2));
/// assert_eq!(numbers.message().await.unwrap(), None);
/// # });
/// ```
pub struct Streaming<T>(Option<Source<T>>);

type Source<T> = Pin<Box<dyn Stream<Item = Result<Sent<T>>> + Send>>;

/// A message on its way, in the form it was given.
pub(crate) enum Sent<T> {
    Message(T),
    /// With what reads it, for who needs the message after all.
    Encoded(Bytes, fn(&[u8]) -> Result<T>),
}

impl<T> Sent<T> {
    /// The message.
    pub(crate) fn message(self) -> Result<T> {
        match self {
            Self::Message(message) => Ok(message),
            Self::Encoded(bytes, read) => read(&bytes),
        }
    }
}

impl<T> Streaming<T> {
    /// From any stream of results.
    pub fn new(stream: impl Stream<Item = Result<T>> + Send + 'static) -> Self {
        Self(Some(Box::pin(stream.map(|item| item.map(Sent::Message)))))
    }

    /// From messages that are encoded already, each perhaps for many streams.
    pub fn encoded(stream: impl Stream<Item = Result<Encoded<T>>> + Send + 'static) -> Self
    where
        T: crate::Message,
    {
        Self(Some(Box::pin(stream.map(|item| item.map(Encoded::sent)))))
    }

    /// What is sent, in the form it was given.
    pub(crate) fn sent(mut self) -> impl Stream<Item = Result<Sent<T>>> + Send + Unpin {
        futures_util::stream::poll_fn(move |task| self.poll_sent(task))
    }

    fn poll_sent(&mut self, task: &mut Task<'_>) -> Poll<Option<Result<Sent<T>>>> {
        let Some(inner) = &mut self.0 else { return Poll::Ready(None) };
        let item = std::task::ready!(inner.as_mut().poll_next(task));
        if !matches!(item, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(item)
    }

    /// From messages that are all there.
    #[expect(
        clippy::should_implement_trait,
        reason = "named like the trait's function, without its generality"
    )]
    pub fn from_iter<I>(messages: I) -> Self
    where
        T: Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Self::new(futures_util::stream::iter(messages.into_iter().map(Ok)))
    }

    /// A sender and the stream of what is sent. The sender waits while `capacity` messages are unread and fails once the
    /// stream is dropped.
    pub fn channel(capacity: usize) -> (Sender<T>, Self)
    where
        T: Send + 'static,
    {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(capacity.max(1));
        (Sender(sender), Self::new(futures_util::stream::poll_fn(move |task| receiver.poll_recv(task))))
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// What ended the stream early. After that, `None`.
    pub async fn message(&mut self) -> Result<Option<T>> {
        self.next().await.transpose()
    }

    /// Each message changed. A change that fails ends the stream.
    pub fn try_map<U>(self, mut change: impl FnMut(T) -> Result<U> + Send + 'static) -> Streaming<U>
    where
        T: 'static,
    {
        Streaming::new(StreamExt::map(self, move |item| item.and_then(&mut change)))
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<T>>> {
        self.poll_sent(task).map(|item| item.map(|sent| sent.and_then(Sent::message)))
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Streaming<{}>", std::any::type_name::<T>())
    }
}

/// Feeds a [`Streaming`]. Dropping it ends the stream.
#[derive(Debug)]
pub struct Sender<T>(tokio::sync::mpsc::Sender<Result<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// `CANCELLED` if the stream is no longer read.
    pub async fn send(&self, message: T) -> Result<()> {
        self.0.send(Ok(message)).await.map_err(|_| unread())
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is none, `CANCELLED` if the stream is no longer read.
    pub fn try_send(&self, message: T) -> Result<()> {
        self.0.try_send(Ok(message)).map_err(|error| match error {
            tokio::sync::mpsc::error::TrySendError::Full(_) => {
                Error::resource_exhausted("the stream's reader does not keep up")
            }
            tokio::sync::mpsc::error::TrySendError::Closed(_) => unread(),
        })
    }

    /// Ends the stream with an error.
    pub async fn fail(self, error: Error) {
        // A reader that went away needs no error.
        let _ = self.0.send(Err(error)).await;
    }

    /// Waits until the stream is no longer read.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

fn unread() -> Error {
    Error::canceled("the stream is no longer read")
}
