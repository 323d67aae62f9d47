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
/// `RUST_BACKTRACE` is set). The message of an internal code stays here too: see [`Error::public_message`].
///
/// ```
/// use bowline_core::{Code, Error, WrapErr};
///
/// fn read() -> Result<String, std::io::Error> {
///     std::fs::read_to_string("/nonexistent")
/// }
/// let error = read().context("reading the price list").unwrap_err();
/// assert_eq!(error.code(), Code::NotFound);
/// assert!(error.to_string().starts_with("reading the price list: "));
/// assert!(error.find::<std::io::Error>().is_some());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    reason: Cow<'static, str>,
    domain: Cow<'static, str>,
    message: Cow<'static, str>,
    metadata: BTreeMap<String, String>,
    retry_after: Option<Duration>,
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
    /// A failure at its root. The message is for whoever called, so it names the cause and the mend.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            reason: Cow::Borrowed(""),
            domain: Cow::Borrowed(""),
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_after: None,
            remote: false,
            context: Vec::new(),
            source: None,
            backtrace: Backtrace::capture(),
        }))
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
    /// keeps its code and reason; an I/O error maps by its kind; all else is internal.
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
            outer.0.reason = inner.0.reason.clone();
            outer.0.domain = inner.0.domain.clone();
            outer.0.metadata = inner.0.metadata.clone();
            outer.0.retry_after = inner.0.retry_after;
            outer.0.remote = inner.0.remote;
            // The root was seen by the inner error; its backtrace stays the one that counts.
            outer.0.backtrace = Backtrace::disabled();
            return outer.with_source(source);
        }
        let code = chain(Some(&*source))
            .find_map(|e| e.downcast_ref::<std::io::Error>())
            .map_or(Code::Internal, code_of_io);
        Self::new(code, source.to_string()).with_source(source)
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

    /// Replaces the message.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
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

    /// What may be shown outside: the message, unless the code is internal; then the code in words only. A message
    /// received from another process was already filtered there.
    pub fn public_message(&self) -> &str {
        if self.0.code.is_internal() && !self.0.remote { self.0.code.words() } else { &self.0.message }
    }

    /// Facts for machines.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// When it is worth trying again, if the failing side said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
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

fn code_of_io(error: &std::io::Error) -> Code {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::TimedOut => Code::DeadlineExceeded,
        Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::NotConnected
        | Kind::BrokenPipe
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown => Code::Unavailable,
        _ => Code::Internal,
    }
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
