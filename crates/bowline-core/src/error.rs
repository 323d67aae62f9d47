//! One error type from the database to the browser.
//!
//! An [`Error`] is opaque: a caller asks what it *means* ([`Error::is_not_found`], [`Error::is_temporary`]), not what
//! it *is*. It is built once, where the failure is first seen; wrapped with what each layer knows while it travels
//! ([`WrapErr::context`]); and logged once, where it is handled.

use std::backtrace::Backtrace;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::Code;

/// Any error, owned.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A result with bowline's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure with a meaning.
///
/// What goes over the wire is the code, the reason, the domain, the message, the metadata and the retry delay. What stays
/// here, for the log, is the context added on the way, the source chain and the backtrace (captured at the root when
/// `RUST_BACKTRACE` is set). The message and the metadata of an internal code stay here too, and so does a message that
/// has a public one beside it: see [`Error::public_message`] and [`Error::public_metadata`].
///
/// ```
/// use bowline_core::{Code, Error, WrapErr};
///
/// fn read() -> Result<String, std::io::Error> {
///     std::fs::read_to_string("/nonexistent")
/// }
/// let error = read().context("reading the price list").unwrap_err();
/// // What a file of ours is called is nobody's business, and that it is missing is no caller's fault.
/// assert_eq!((error.code(), error.public_message()), (Code::Internal, "internal error"));
/// assert!(error.to_string().starts_with("reading the price list: "));
/// assert!(error.find::<std::io::Error>().is_some());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    reason: Cow<'static, str>,
    domain: Cow<'static, str>,
    message: Cow<'static, str>,
    public_message: Option<Cow<'static, str>>,
    metadata: BTreeMap<String, String>,
    retry_after: Option<Duration>,
    forbids_retry: bool,
    remote: bool,
    /// Innermost first.
    context: Vec<Cow<'static, str>>,
    source: Option<BoxError>,
    backtrace: Backtrace,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident $code:ident;)*) => {
        $($(#[$doc])*
        pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
            Self::new(Code::$code, message)
        })*
    };
}

impl Error {
    /// The key of a request's id in the metadata.
    pub const REQUEST_ID: &'static str = "request_id";

    /// A failure at its root. The message is for whoever called, so it names the cause and the mend.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::made(code, message.into(), Backtrace::capture())
    }

    fn made(code: Code, message: Cow<'static, str>, backtrace: Backtrace) -> Self {
        Self(Box::new(Inner {
            code,
            reason: Cow::Borrowed(""),
            domain: Cow::Borrowed(""),
            message,
            public_message: None,
            metadata: BTreeMap::new(),
            retry_after: None,
            forbids_retry: false,
            remote: false,
            context: Vec::new(),
            source: None,
            backtrace,
        }))
    }

    /// A refusal that is no fault of anybody's: there is too much to do, or too much was asked for. It tells no backtrace
    /// whatever the environment says, for it comes most often when there is least time to make one. What another process
    /// answered has none either: its root is there.
    pub fn refusal(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::made(code, message.into(), Backtrace::disabled())
    }

    constructors! {
        /// The request is wrong.
        invalid_argument InvalidArgument;
        /// What was asked for does not exist.
        not_found NotFound;
        /// What was to be created exists.
        already_exists AlreadyExists;
        /// The caller may not do this.
        permission_denied PermissionDenied;
        /// The caller is not known.
        unauthenticated Unauthenticated;
        /// A limit is used up.
        resource_exhausted ResourceExhausted;
        /// The state does not allow it.
        failed_precondition FailedPrecondition;
        /// Not now.
        unavailable Unavailable;
        /// No such operation.
        unimplemented Unimplemented;
        /// A bug, or an invariant that broke.
        internal Internal;
        /// The caller gave up.
        canceled Canceled;
        /// Too late.
        deadline_exceeded DeadlineExceeded;
    }

    /// Wraps an error of another kind. Its code is found by asking what it means: an [`Error`] anywhere in its chain
    /// keeps its code and reason; an I/O error of a connection is `UNAVAILABLE`; all else is internal. The text of either
    /// stays inside.
    pub fn from_std(source: impl Into<BoxError>) -> Self {
        let source = source.into();
        match source.downcast::<Self>() {
            Ok(ours) => *ours,
            Err(other) => Self::wrap(other),
        }
    }

    fn wrap(source: BoxError) -> Self {
        let ours = chain(Some(&*source)).find_map(|e| e.downcast_ref::<Self>());
        if let Some(inner) = ours {
            let mut outer = Self::new(inner.code(), inner.0.message.clone());
            outer.0.public_message = inner.0.public_message.clone();
            outer.0.reason = inner.0.reason.clone();
            outer.0.domain = inner.0.domain.clone();
            outer.0.metadata = inner.0.metadata.clone();
            outer.0.retry_after = inner.0.retry_after;
            outer.0.forbids_retry = inner.0.forbids_retry;
            outer.0.remote = inner.0.remote;
            // The root was seen by the inner error; its backtrace stays the one that counts.
            outer.0.backtrace = Backtrace::disabled();
            return outer.with_source(source);
        }
        let message = source.to_string();
        let io = chain(Some(&*source)).find_map(|e| e.downcast_ref::<std::io::Error>());
        if io.is_some_and(is_of_connection) {
            let error = Self::unavailable(message).with_public_message("a connection failed");
            return error.with_source(source);
        }
        Self::internal(message).with_source(source)
    }

    /// The same failure once more, for another one who waits for the same. Its source stays with the first.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut again = Self::new(self.code(), self.0.message.clone());
        again.0.public_message.clone_from(&self.0.public_message);
        again.0.reason.clone_from(&self.0.reason);
        again.0.domain.clone_from(&self.0.domain);
        again.0.metadata.clone_from(&self.0.metadata);
        again.0.context.clone_from(&self.0.context);
        again.0.retry_after = self.0.retry_after;
        again.0.forbids_retry = self.0.forbids_retry;
        again.0.remote = self.0.remote;
        again
    }

    /// Names the failure for machines: `UPPER_SNAKE_CASE`, unique within the domain.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = reason.into();
        self
    }

    /// Says whose reason it is: the proto package of the error enum.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<Cow<'static, str>>) -> Self {
        self.0.domain = domain.into();
        self
    }

    /// Replaces the message, also what is shown of it outside.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
        self.0.public_message = None;
        self
    }

    /// Says what is shown outside instead of the message: where that names what only the log may know, such as addresses
    /// and what the system says of them.
    #[must_use]
    pub fn with_public_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.public_message = Some(message.into());
        self
    }

    /// Adds a fact for machines.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Says that it was tried again already, or must not be: callers do not try again on their own. Otherwise each layer of
    /// callers would multiply what a failing service gets.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.0.forbids_retry = true;
        self
    }

    /// Keeps the cause, for the log and for [`Error::find`].
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Marks it as received from another process: that one has logged its details.
    #[must_use]
    pub fn into_remote(mut self) -> Self {
        self.0.remote = true;
        self
    }

    /// Adds what the caller knows. See [`WrapErr`].
    #[must_use]
    pub fn context(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.context.push(message.into());
        self
    }

    /// What kind of failure it is.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Its name for machines; the code's name where none was given.
    pub fn reason(&self) -> &str {
        if self.0.reason.is_empty() { self.0.code.as_str() } else { &self.0.reason }
    }

    /// Whose reason it is; empty where none was given.
    pub fn domain(&self) -> &str {
        &self.0.domain
    }

    /// What happened, as it was said at the root, without context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What may be shown outside: the public message if there is one, the message otherwise. Of an internal code it is the
    /// code in words only, wherever the error came from: what another process says of its inside is not ours to pass on.
    pub fn public_message(&self) -> &str {
        match &self.0.public_message {
            _ if self.0.code.is_internal() => self.0.code.words(),
            Some(public) => public,
            None => &self.0.message,
        }
    }

    /// The metadata that may be shown outside: all of it, but of an internal code only [`Error::REQUEST_ID`], by which its
    /// details are found in the log.
    pub fn public_metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        all.filter(|(key, _)| !self.0.code.is_internal() || *key == Self::REQUEST_ID)
    }

    /// Facts for machines.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// When it is worth trying again, if the failing side said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether callers are not to try again: see [`Error::without_retry`].
    pub fn forbids_retry(&self) -> bool {
        self.0.forbids_retry
    }

    /// Whether it was received from another process.
    pub fn is_remote(&self) -> bool {
        self.0.remote
    }

    /// The backtrace of the root. Empty unless `RUST_BACKTRACE` was set.
    pub fn backtrace(&self) -> &Backtrace {
        chain(Some(self))
            .filter_map(|e| e.downcast_ref::<Self>())
            .last()
            .map_or(&self.0.backtrace, |root| &root.0.backtrace)
    }

    /// Whether it has this domain and reason. Survives wrapping and the wire.
    pub fn matches(&self, domain: &str, reason: &str) -> bool {
        self.0.reason == reason && self.0.domain == domain
    }

    /// The first error of type `T` in the chain.
    pub fn find<T: StdError + 'static>(&self) -> Option<&T> {
        chain(self.source()).find_map(|e| e.downcast_ref())
    }

    /// Whether the same call may succeed a little later: `UNAVAILABLE`, or `RESOURCE_EXHAUSTED` and `ABORTED` where the
    /// failing side said when.
    pub fn is_temporary(&self) -> bool {
        match self.0.code {
            Code::Unavailable => true,
            Code::ResourceExhausted | Code::Aborted => self.0.retry_after.is_some(),
            _ => false,
        }
    }

    /// Whether it is a matter of time: the deadline passed.
    pub fn is_timeout(&self) -> bool {
        self.0.code == Code::DeadlineExceeded
    }

    /// Whether the caller gave up.
    pub fn is_canceled(&self) -> bool {
        self.0.code == Code::Canceled
    }

    /// Whether what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.0.code == Code::NotFound
    }

    /// Whether it collides with what exists or with a concurrent change.
    pub fn is_conflict(&self) -> bool {
        matches!(self.0.code, Code::AlreadyExists | Code::Aborted)
    }

    /// Whether the request itself is wrong.
    pub fn is_invalid(&self) -> bool {
        matches!(self.0.code, Code::InvalidArgument | Code::OutOfRange)
    }

    /// Whether it is about who may do what.
    pub fn is_denied(&self) -> bool {
        matches!(self.0.code, Code::PermissionDenied | Code::Unauthenticated)
    }

    /// Whether the caller is to blame rather than the server.
    pub fn is_callers_fault(&self) -> bool {
        !matches!(
            self.0.code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        )
    }
}

/// An error and its sources, outermost first.
fn chain<'a>(
    first: Option<&'a (dyn StdError + 'static)>,
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = first;
    std::iter::from_fn(move || {
        let current = next?;
        next = current.source();
        Some(current)
    })
}

/// Whether it is about the way to another process, which may be there again later. A missing file is not: it is a fault of
/// whoever needs it, not of whoever called.
fn is_of_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::TimedOut
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {self}", self.0.code, self.reason())?;
        let mut last = self.to_string();
        for cause in chain(self.source()) {
            // A wrapper whose message repeats its source says nothing new.
            let text = cause.to_string();
            if !last.ends_with(&text) {
                write!(f, "\n  caused by: {text}")?;
            }
            last = text;
        }
        if self.backtrace().status() == std::backtrace::BacktraceStatus::Captured {
            write!(f, "\n{}", self.backtrace())?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Adds what the caller knows to a failure it does not handle.
pub trait WrapErr<T> {
    /// Adds `message` in front.
    ///
    /// # Errors
    /// The failure itself, wrapped.
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T>;

    /// Adds a message that is only made when there is a failure.
    ///
    /// # Errors
    /// The failure itself, wrapped.
    fn with_context<M: Into<Cow<'static, str>>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<BoxError>> WrapErr<T> for Result<T, E> {
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|e| Error::from_std(e).context(message))
    }

    fn with_context<M: Into<Cow<'static, str>>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|e| Error::from_std(e).context(message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Custom(Error);
    impl fmt::Display for Custom {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("custom")
        }
    }
    impl StdError for Custom {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    fn missing() -> Error {
        Error::not_found("item 7 does not exist").with_reason("ITEM_NOT_FOUND").with_domain("shop.v1")
    }

    #[test]
    fn context_goes_in_front_and_meaning_survives_wrapping() {
        let error = Err::<(), _>(missing()).context("loading").context("rendering").unwrap_err();
        assert_eq!(error.to_string(), "rendering: loading: item 7 does not exist");
        assert_eq!(error.message(), "item 7 does not exist");
        assert!(error.matches("shop.v1", "ITEM_NOT_FOUND") && error.is_not_found());

        let foreign = Error::from_std(Custom(missing()));
        assert!(foreign.matches("shop.v1", "ITEM_NOT_FOUND"));
        assert!(foreign.find::<Custom>().is_some() && foreign.find::<Error>().is_some());
    }

    #[test]
    fn internal_details_stay_inside() {
        let error = Error::internal("password of db1 is hunter2");
        assert_eq!(error.public_message(), "internal error");
        assert_eq!(error.reason(), "INTERNAL");
        assert_eq!(missing().public_message(), "item 7 does not exist");
        let remote = error.with_metadata("host", "db1").with_metadata(Error::REQUEST_ID, "r1").into_remote();
        assert_eq!(remote.public_message(), "internal error", "its sender may have filtered nothing");
        assert_eq!(remote.public_metadata().collect::<Vec<_>>(), [(Error::REQUEST_ID, "r1")]);
        let public = missing().with_metadata("id", "7");
        assert_eq!(public.public_metadata().collect::<Vec<_>>(), [("id", "7")]);
    }

    #[test]
    fn what_the_system_says_stays_inside() {
        use std::io::{Error as IoError, ErrorKind};
        for (kind, code, public) in [
            (ErrorKind::NotFound, Code::Internal, "internal error"),
            (ErrorKind::AlreadyExists, Code::Internal, "internal error"),
            (ErrorKind::PermissionDenied, Code::Internal, "internal error"),
            (ErrorKind::TimedOut, Code::Unavailable, "a connection failed"),
            (ErrorKind::ConnectionReset, Code::Unavailable, "a connection failed"),
        ] {
            let error = Err::<(), _>(IoError::new(kind, "/etc/db1")).context("reading").unwrap_err();
            assert_eq!((error.code(), error.public_message()), (code, public), "{kind:?}");
            assert_eq!(error.to_string(), "reading: /etc/db1", "the log has it");
        }
    }

    #[test]
    fn a_public_message_survives_wrapping_and_ends_with_a_new_message() {
        let error = Error::unavailable("10.0.0.1 is away").with_public_message("it is away");
        let wrapped = Error::from_std(Custom(error)).context("asking");
        assert_eq!(wrapped.to_string(), "asking: 10.0.0.1 is away");
        assert_eq!(wrapped.public_message(), "it is away");
        assert_eq!(wrapped.with_message("closed").public_message(), "closed");
    }

    #[test]
    fn debug_tells_the_chain_once() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        let error = Err::<(), _>(io).context("connecting to db1").unwrap_err();
        assert!(error.is_temporary());
        assert_eq!(
            format!("{error:?}").lines().next(),
            Some("UNAVAILABLE UNAVAILABLE: connecting to db1: refused")
        );
        assert_eq!(error.find::<std::io::Error>().map(ToString::to_string).as_deref(), Some("refused"));
    }
}
