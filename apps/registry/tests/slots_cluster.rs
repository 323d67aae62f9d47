//! Slots of a client that has several nodes behind one channel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::time::Duration;

use bowline_registry_bowline::{BowlineRegistry, SlotLease};
use bowline_tests_support::eventually;
use common::SEC;
use common::members::{Member, behind_one_channel};

/// A renewal each two thirds of a second.
fn client(members: &[Member]) -> BowlineRegistry {
    behind_one_channel(members, |options| {
        options.ttl = Some(2 * SEC);
        options.attempt_timeout = 2 * SEC;
    })
}

async fn number(lease: &mut SlotLease) -> u32 {
    loop {
        match lease.number() {
            Some(number) => return number,
            None => _ = lease.changed().await.unwrap(),
        }
    }
}

fn leases(members: &[Member]) -> Vec<usize> {
    members.iter().map(|member| member.node().stats().leases).collect()
}

#[tokio::test]
async fn a_slot_stays_at_the_node_of_its_stream_and_moves_with_it_when_that_is_lost() {
    let mut members = Member::several(&["a", "a", "a"]).await;
    let registry = client(&members);
    let mut first = registry.lease_slot("g", "m-0").unwrap();
    assert_eq!(number(&mut first).await, 0);
    let mut second = registry.lease_slot("g", "m-1").unwrap();
    assert_eq!(number(&mut second).await, 1);
    eventually(|| members.iter().all(|member| member.node().stats().instances == 2)).await;
    let (mut of_first, mut of_second) = (first.watch(), second.watch());
    for number in [&mut of_first, &mut of_second] {
        number.mark_unchanged();
    }

    let at = leases(&members);
    let owner = at.iter().position(|leases| *leases == 2).unwrap_or_else(|| panic!("on one of all: {at:?}"));
    // Some five renewals.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(33)).await;
        assert_eq!(leases(&members), at, "the leases stay where they are");
    }

    drop(members.remove(owner));
    eventually(|| leases(&members).contains(&2)).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(33)).await;
        assert_eq!(leases(&members).iter().sum::<usize>(), 2);
    }
    assert!(!of_first.has_changed().unwrap() && !of_second.has_changed().unwrap(), "the numbers stay");
    first.release(&common::within(5 * SEC)).await.unwrap();
    eventually(|| members.iter().all(|member| member.node().stats().instances == 1)).await;
    // Other processes, whose stream may lead to another node.
    drop(second);
    let another = client(&members);
    let mut third = another.lease_slot("g", "m-2").unwrap();
    assert_eq!(number(&mut third).await, 0, "the number that was let go");
    let mut heir = another.lease_slot("g", "m-1").unwrap();
    assert_eq!(number(&mut heir).await, 1, "who comes in a member's place has its number");
}
