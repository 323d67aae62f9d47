//! The reference shop as real processes on free ports, each application as often as a test wants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "support of tests")]

mod disk;
mod fleet;
mod load;

pub use disk::SlowDisk;
pub use fleet::{App, Fleet, Instance};
pub use load::{Load, Report};
use tokio::sync::{Mutex, MutexGuard};

/// Waits until no other test of the program measures: each needs the machine for itself.
pub async fn undisturbed() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    ONE_AT_A_TIME.lock().await
}
