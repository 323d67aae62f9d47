//! What the pipeline knows of one call while it runs.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use bowline_core::{Code, Context, Error, Instant, Operation};

use crate::Protocol;
use crate::rest::RestCall;
use crate::routes::Route;

/// How a call ended, told by whoever knows first: the handler's wrapper, a stream's end, or a layer that refused the call.
///
/// Each protocol puts the status elsewhere (header, trailer, JSON); here it is one value for metrics, log, breaker and
/// balancer alike.
#[derive(Clone, Debug, Default)]
pub struct Outcome(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// 0: not known yet; 1: success; code + 1 otherwise.
    code: AtomicU8,
    error: OnceLock<Error>,
}

impl Outcome {
    /// The call succeeded. The first word counts.
    pub fn succeed(&self) {
        let _ = self.0.code.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The call failed with `code` and no more is known. The first word counts.
    pub fn fail_with(&self, code: Code) {
        let _ = self.0.code.compare_exchange(0, code as u8 + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The call failed; keeps the error's details for the log. The first word counts.
    pub fn fail(&self, error: Error) {
        self.fail_with(error.code());
        let _ = self.0.error.set(error);
    }

    /// Whether it is known.
    pub fn is_known(&self) -> bool {
        self.0.code.load(Ordering::Relaxed) != 0
    }

    /// The code of a failure; `None` for success and while it is not known.
    pub fn code(&self) -> Option<Code> {
        Code::from_number(u32::from(self.0.code.load(Ordering::Relaxed).saturating_sub(1)))
    }

    /// The failure's details, where they are known.
    pub fn error(&self) -> Option<&Error> {
        self.0.error.get()
    }
}

/// One call: travels in the request's extensions from the first layer to the handler.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The call's context.
    pub cx: Context,
    /// How it was spoken.
    pub protocol: Protocol,
    /// What is called.
    pub operation: Operation,
    /// Where it goes; `None` for what a fallback answers.
    pub route: Option<Arc<Route>>,
    /// How it ends.
    pub outcome: Outcome,
    /// When it came.
    pub started: Instant,
    pub(crate) rest: Option<RestCall>,
}

impl Scope {
    /// The scope of a call that no route answers, such as one that a gateway passes on.
    pub fn unrouted(cx: Context, protocol: Protocol, operation: Operation) -> Self {
        Self {
            cx,
            protocol,
            operation,
            route: None,
            outcome: Outcome::default(),
            started: Instant::now(),
            rest: None,
        }
    }
}
