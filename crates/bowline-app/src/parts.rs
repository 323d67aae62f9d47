//! What an application is made of.

use std::future::Future;

use bowline_core::{Context, Endpoint, Result};

use crate::BoxFuture;

/// Something that listens and answers. The application calls its methods in the order in which they stand here.
pub trait Server: Send + 'static {
    /// What logs and errors call it.
    fn name(&self) -> &str;

    /// Starts to listen and returns the endpoints to advertise; none for a server that is not for consumers, such as the
    /// admin listener.
    ///
    /// # Errors
    /// When it cannot listen, such as on a taken port.
    fn bind<'a>(&'a mut self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<Endpoint>>>;

    /// Accepts and answers until it is drained or aborted. Returning earlier, with or without an error, is a crash.
    fn serve(&self) -> BoxFuture<'static, Result<()>>;

    /// What its health checks say. Not ready until told so.
    fn set_ready(&self, ready: bool);

    /// Stops accepting, tells its clients to go elsewhere and waits for the requests under way.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` when requests are left at the end of `cx`; what is left is aborted then, by design. Anything
    /// else is a failure.
    fn drain<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>>;

    /// Whether it is for operators and platforms rather than for callers: then it answers until the others have drained.
    fn is_for_operators(&self) -> bool {
        false
    }

    /// Cancels what is left. [`Server::serve`] is expected to return soon after.
    fn abort(&self);
}

/// Something that is opened before the servers start and closed after they have ended: a database, a broker.
pub trait Resource: Send + 'static {
    /// What logs and errors call it.
    fn name(&self) -> &str;

    /// Closes it. Called once.
    ///
    /// # Errors
    /// When it could not be closed in good order, such as with data that was not flushed.
    fn close<'a>(&'a mut self, cx: &'a Context) -> BoxFuture<'a, Result<()>>;
}

/// A named piece of a user's code, run once.
pub(crate) struct Hook<T> {
    pub(crate) name: String,
    pub(crate) run: Box<dyn FnOnce(Context) -> BoxFuture<'static, Result<T>> + Send>,
}

impl<T> Hook<T> {
    pub(crate) fn new<F, Fut>(name: impl Into<String>, hook: F) -> Self
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        Self { name: name.into(), run: Box::new(move |cx| Box::pin(hook(cx))) }
    }
}

/// A resource on the list: one to open, or one that the application was given open.
pub(crate) enum Part {
    ToOpen(Hook<Box<dyn Resource>>),
    Owned(Box<dyn Resource>),
}
