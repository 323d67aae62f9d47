//! What the integration tests share: a plain HTTP client, processes, and waiting for a condition with a bound.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "support of tests")]

mod http;
mod process;

use std::time::Duration;

pub use crate::http::{Answer, Authority, Http};
pub use crate::process::{PATIENCE, Process, admin_page, build, free_port, programs};

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not in 5 s.
pub async fn eventually(condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(5), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("the condition did not come true in 5 s");
}
