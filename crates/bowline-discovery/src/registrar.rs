//! Announcing an instance.

use std::future::Future;
use std::pin::Pin;

use bowline_core::{Context, Instance, Result};

/// A future on the heap: what the object-safe traits of this crate return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Announces instances to a registry.
pub trait Registrar: Send + Sync + 'static {
    /// Announces `instance` and keeps it announced, with retries inside and for ever, until the registration is closed or
    /// dropped. `Ok` means that the registry has it now, or that it cannot be reached and is asked again until it has: a
    /// registry that is down keeps no service from starting.
    ///
    /// # Errors
    /// When the registry refuses the instance (`INVALID_ARGUMENT`, `PERMISSION_DENIED`), or `cx` was done before it was
    /// taken and before that was given up for now (`UNAVAILABLE`, `DEADLINE_EXCEEDED`). Nothing stays registered then.
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>>;
}

/// An instance that is announced. Dropping it without [`Registration::deregister`] stops keeping it alive: the registry
/// removes it once its lease runs out.
pub trait Registration: Send + Sync + 'static {
    /// Takes the instance out. Doing it twice is doing it once.
    ///
    /// # Errors
    /// When the registry did not confirm before `cx` was done. It is no longer kept alive either way.
    fn deregister<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>>;

    /// Announces other facts about the same instance: its status, weight or metadata.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the id or the service is another one; `FAILED_PRECONDITION` once it is deregistered;
    /// otherwise as [`Registrar::register`].
    fn update<'a>(&'a self, cx: &'a Context, instance: Instance) -> BoxFuture<'a, Result<()>>;
}
