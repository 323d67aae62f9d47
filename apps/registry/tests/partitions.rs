//! Real nodes in networks whose cables are pulled.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::time::{Duration, Instant};

use common::networks::Networks;
use common::nodes::Nodes;

/// Longer than it takes to see that a node is lost.
const LOST: Duration = Duration::from_secs(12);

#[tokio::test]
async fn nodes_that_are_cut_off_go_on_alone_and_are_equal_again_soon_after() {
    let networks = match Networks::make(3) {
        Ok(networks) => networks,
        Err(why) => return println!("skipped: {why}"),
    };
    let mut nodes = Nodes::start_in(Some(&networks), &["a", "a", "b"]).await;
    nodes.register(0, "orders", "o-0", "h0").await;
    nodes.register(1, "orders", "o-1", "h1").await;
    nodes.register(2, "orders", "o-2", "h2").await;
    nodes.have(&[0, 1, 2], "orders", &["o-0", "o-1", "o-2"]).await;

    networks.cut(2);
    let cut = Instant::now();
    // Both sides take registrations at once, and nobody loses anything while they do not hear of each other.
    nodes.register(0, "orders", "o-3", "h3").await;
    nodes.register(2, "orders", "o-4", "h4").await;
    nodes.have(&[0, 1], "orders", &["o-0", "o-1", "o-2", "o-3"]).await;
    nodes.have(&[2], "orders", &["o-0", "o-1", "o-2", "o-4"]).await;
    nodes.until_orphans(0, |orphans| orphans == 1).await;
    tokio::time::sleep(LOST.saturating_sub(cut.elapsed())).await;
    nodes.have(&[0, 1], "orders", &["o-0", "o-1", "o-2", "o-3"]).await;
    nodes.have(&[2], "orders", &["o-0", "o-1", "o-2", "o-4"]).await;
    // What is gone on one side is gone on both, once they meet again.
    nodes.deregister(0, "orders", "o-0", "h0").await;
    networks.mend(2);
    let mended = Instant::now();
    nodes.have(&[0, 1, 2], "orders", &["o-1", "o-2", "o-3", "o-4"]).await;
    println!("all nodes were equal {:.1?} after the mend", mended.elapsed());

    // One that stands still is taken for lost; when it goes on, its leases have not run out meanwhile.
    nodes.register_for(1, "orders", "o-5", "h5", "5s").await;
    nodes.have(&[0, 1, 2], "orders", &["o-1", "o-2", "o-3", "o-4", "o-5"]).await;
    nodes.hosts[1].process.as_ref().unwrap().pause();
    nodes.until_orphans(0, |orphans| orphans == 2).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    nodes.have(&[0, 2], "orders", &["o-1", "o-2", "o-3", "o-4", "o-5"]).await;
    nodes.hosts[1].process.as_ref().unwrap().resume();
    nodes.have(&[1], "orders", &["o-1", "o-2", "o-3", "o-4", "o-5"]).await;
    // And then it does: nobody renews it.
    nodes.have(&[0, 1, 2], "orders", &["o-1", "o-2", "o-3", "o-4"]).await;
    nodes.kill(0).await;
}
