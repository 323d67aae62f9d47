//! What threads share permits by: the standard library's and tokio's; under `--cfg loom` those of loom, which tries every order of
//! what threads do with them.
//!
//! Only what permits are counted by is here. Statistics may be a little wrong, and loom would try orders of those until tomorrow.

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};

#[cfg(not(loom))]
pub(crate) use tokio::sync::oneshot;

/// tokio's oneshot channel as its documentation says that it is, each step of it under a lock that loom knows: so loom tries all
/// that can happen between two steps. What happens within one is tokio's, which is tried by loom there.
#[cfg(loom)]
pub(crate) mod oneshot {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::{Arc, Mutex, MutexGuard};

    #[derive(Debug)]
    struct State<T> {
        value: Option<T>,
        sender_is_gone: bool,
        receiver_is_gone: bool,
        waker: Option<Waker>,
    }

    #[derive(Debug)]
    struct Shared<T>(Mutex<State<T>>);

    #[derive(Debug)]
    pub(crate) struct Sender<T>(Arc<Shared<T>>);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(Arc<Shared<T>>);

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let state = State { value: None, sender_is_gone: false, receiver_is_gone: false, waker: None };
        let shared = Arc::new(Shared(Mutex::new(state)));
        (Sender(Arc::clone(&shared)), Receiver(shared))
    }

    impl<T> Shared<T> {
        fn state(&self) -> MutexGuard<'_, State<T>> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    impl<T> Sender<T> {
        /// The value again, if nobody waits for it any more.
        pub(crate) fn send(self, value: T) -> Result<(), T> {
            let mut state = self.0.state();
            if state.receiver_is_gone {
                return Err(value);
            }
            state.value = Some(value);
            Ok(())
        }

        pub(crate) fn is_closed(&self) -> bool {
            self.0.state().receiver_is_gone
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let waker = {
                let mut state = self.0.state();
                state.sender_is_gone = true;
                state.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, ()>;

        fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
            let mut state = self.0.state();
            match state.value.take() {
                Some(value) => Poll::Ready(Ok(value)),
                None if state.sender_is_gone => Poll::Ready(Err(())),
                None => {
                    state.waker = Some(task.waker().clone());
                    Poll::Pending
                }
            }
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let value = {
                let mut state = self.0.state();
                state.receiver_is_gone = true;
                state.value.take()
            };
            // What its end does is not done under the lock.
            drop(value);
        }
    }
}
