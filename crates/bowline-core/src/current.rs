//! The request that the running task works for.
//!
//! For the log alone: a line written anywhere below a handler carries its request's ids. Nothing decides anything by it;
//! whatever needs a context takes one as its first argument.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use crate::Context;

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// Runs `work` as part of the request `cx` belongs to.
pub fn enter<T>(cx: &Context, work: impl FnOnce() -> T) -> T {
    let _restore = Restore(CURRENT.replace(Some(cx.clone())));
    work()
}

/// Calls `read` with the current request's context, if there is one.
pub fn with<T>(read: impl FnOnce(&Context) -> T) -> Option<T> {
    CURRENT.try_with(|current| current.try_borrow().ok()?.as_ref().map(read)).ok().flatten()
}

/// Puts the outer request back, after a panic too.
struct Restore(Option<Context>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

pin_project_lite::pin_project! {
    /// A future that is part of a request in each of its polls.
    #[derive(Debug)]
    pub struct Scoped<F> {
        cx: Context,
        #[pin]
        future: F,
    }
}

/// Makes `future` part of the request `cx` belongs to.
pub fn scoped<F: Future>(cx: Context, future: F) -> Scoped<F> {
    Scoped { cx, future }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<F::Output> {
        let this = self.project();
        enter(this.cx, || this.future.poll(task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_request_comes_back() {
        let (outer, inner) = (Context::background().with_value(1_u8), Context::background().with_value(2_u8));
        let value = || with(|cx| cx.value::<u8>().copied()).flatten();
        enter(&outer, || {
            enter(&inner, || assert_eq!(value(), Some(2)));
            let inside = std::panic::AssertUnwindSafe(|| enter(&inner, || panic!("inside")));
            assert!(std::panic::catch_unwind(inside).is_err());
            assert_eq!(value(), Some(1));
        });
        assert_eq!(value(), None);
    }
}
