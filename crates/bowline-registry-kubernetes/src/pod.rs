//! The registration of a process that Kubernetes itself registers.

use std::sync::atomic::{AtomicBool, Ordering};

use bowline_core::{Context, Error, Instance, Result};
use bowline_discovery::{BoxFuture, Registration};

/// Tells nobody anything, and keeps to the rules of registrations all the same, so that what is wrong elsewhere is wrong here.
pub(crate) struct InPod {
    instance: Instance,
    is_gone: AtomicBool,
}

impl InPod {
    pub(crate) const fn new(instance: Instance) -> Self {
        Self { instance, is_gone: AtomicBool::new(false) }
    }
}

impl Registration for InPod {
    fn deregister<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<()>> {
        self.is_gone.store(true, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    }

    fn update<'a>(&'a self, _: &'a Context, instance: Instance) -> BoxFuture<'a, Result<()>> {
        let known = &self.instance;
        let is_same =
            (&instance.id, &instance.service, &instance.env) == (&known.id, &known.service, &known.env);
        let result = if !is_same {
            Err(Error::invalid_argument(format!(
                "`{}` of `{}` cannot become `{}` of `{}` by an update; register that one",
                known.id, known.service, instance.id, instance.service
            )))
        } else if self.is_gone.load(Ordering::Relaxed) {
            Err(Error::failed_precondition(format!("`{}` is deregistered; register it anew", known.id)))
        } else {
            tracing::debug!(instance = %known.id, status = ?instance.status,
                "Kubernetes goes by the pod's readiness, not by what a process says of itself");
            Ok(())
        };
        Box::pin(std::future::ready(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_to_the_rules_of_registrations() {
        let (cx, instance) = (Context::background(), Instance::new("s", "a"));
        let registration = InPod::new(instance.clone());
        registration.update(&cx, Instance { weight: 7, ..instance.clone() }).await.unwrap();
        assert!(registration.update(&cx, Instance::new("s", "b")).await.unwrap_err().is_invalid());
        registration.deregister(&cx).await.unwrap();
        registration.deregister(&cx).await.unwrap();
        assert!(registration.update(&cx, instance).await.unwrap_err().message().contains("register it anew"));
    }
}
