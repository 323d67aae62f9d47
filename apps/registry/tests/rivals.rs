//! Two processes of one node's name, and who only says so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_tests_support::{PATIENCE, eventually};
use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion};
use common::members::{Member, peers};
use serde_json::json;

/// Why a node has left.
async fn ended(member: &mut Member) -> String {
    let ended = tokio::time::timeout(PATIENCE, member.ended.wait_for(Option::is_some)).await;
    ended.unwrap().unwrap().as_ref().unwrap().to_string()
}

fn is_there(member: &Member) -> bool {
    member.ended.borrow().is_none()
}

#[tokio::test]
async fn of_two_processes_of_one_name_the_younger_hears_of_the_elder_and_the_elder_stays() {
    let at = [peers(), peers()];
    let elder = Member::start("registry-0", "a", at[0], &at).await;
    elder.node().serves().await;
    let mut younger = Member::start("registry-0", "a", at[1], &at).await;
    let mut youngest = Member::start("registry-0", "a", peers(), &at).await;
    let why = ended(&mut younger).await;
    assert!(why.contains(&at[0].to_string()) && why.contains("`cluster.node` of its own"), "{why}");
    // Of which of the two that were there before it, is all the same.
    let why = ended(&mut youngest).await;
    assert!(at.iter().any(|at| why.contains(&at.to_string())), "{why}");
    assert!(is_there(&elder));
}

#[tokio::test]
async fn what_the_elder_of_two_has_is_nobodys_orphan_while_both_are_there() {
    let at = [peers(), peers(), peers()];
    let elder = Member::start("registry-0", "a", at[0], &at).await;
    let other = Member::start("registry-1", "a", at[1], &at).await;
    for member in [&elder, &other] {
        member.node().serves().await;
    }
    let register = "/v1/registry/default/prod/services/orders/instances/o-1:register";
    elder.real.post(register, json!({"instance": {}, "holder": "h", "ttl": "60s"})).await;
    let has = |member: &Member| (member.node().stats().instances, member.node().stats().orphans);
    eventually(|| has(&other) == (1, 0)).await;
    let mut younger = Member::start("registry-0", "a", at[2], &at).await;
    let (mut looks, mut orphaned, mut younger_knows) = (0, 0, false);
    while is_there(&younger) {
        looks += 1;
        orphaned += has(&other).1;
        younger_knows |= has(&younger) == (1, 0);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // On a busy machine a node may not be heard of for a moment.
    assert!(orphaned * 10 < looks, "{orphaned} times of {looks}");
    assert!(younger_knows, "the younger one hears of the elder too");
    ended(&mut younger).await;
    drop(younger);
    eventually(|| has(&other) == (1, 0) && has(&elder) == (1, 0)).await;
    drop(elder);
    eventually(|| has(&other) == (1, 1)).await;
}

/// Somebody who gossips that he is this node, since long before it began.
async fn stranger(name: &str, at: SocketAddr, seed: SocketAddr) -> ChitchatHandle {
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new(name, 1, at),
        cluster_id: "registry".into(),
        gossip_interval: Duration::from_millis(250),
        listen_addr: at,
        seed_nodes: vec![seed.to_string()],
        failure_detector_config: FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_secs(3600),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V0,
    };
    chitchat::spawn_chitchat(config, vec![("zone".into(), "a".into())], &UdpTransport).await.unwrap()
}

/// Connects who comes to `at` with a node elsewhere. Returns how many have come.
async fn hand_on(at: SocketAddr, there: SocketAddr, tasks: &Tracker) -> Arc<AtomicUsize> {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    tasks.spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let Ok(mut to) = tokio::net::TcpStream::connect(there).await else { continue };
            _ = tokio::time::timeout(common::SEC, tokio::io::copy_bidirectional(&mut from, &mut to)).await;
        }
    });
    came
}

/// Waits until the stranger was asked three times who he is; the node is there meanwhile.
async fn is_there_until_asked(member: &Member, asked: &AtomicUsize) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while asked.load(Ordering::Relaxed) < 3 {
            assert!(is_there(member));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "it is not asked whether it is this node");
}

#[tokio::test]
async fn a_strangers_word_that_he_has_a_nodes_name_ends_nobody() {
    let member = Member::start("registry-0", "a", peers(), &[]).await;
    member.node().serves().await;
    let at = peers();
    // Where he says to be, somebody answers, who is no node.
    let asked = Arc::new(AtomicUsize::new(0));
    let (listener, count, tasks) =
        (tokio::net::TcpListener::bind(at).await.unwrap(), Arc::clone(&asked), Tracker::new());
    tasks.spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let stranger = stranger("registry-0", at, member.peers).await;
    is_there_until_asked(&member, &asked).await;
    assert!(is_there(&member));
    stranger.abort();
    tasks.abort();
}

#[tokio::test]
async fn clients_are_told_of_nobody_who_only_says_that_he_is_a_node() {
    let member = Member::start("registry-0", "a", peers(), &[]).await;
    member.node().serves().await;
    // Who comes is handed on to a node, which is not the one that he says to be.
    let (at, tasks) = (peers(), Tracker::new());
    let asked = hand_on(at, member.peers, &tasks).await;
    let stranger = stranger("registry-7", at, member.peers).await;
    let waited = tokio::time::timeout(PATIENCE, async {
        while asked.load(Ordering::Relaxed) < 10 {
            let nodes = member.real.call("GET", "/discovery/nodes", &[], "").await.json();
            let own = member.real.at.authority();
            assert_eq!(nodes["data"], json!([{"addr": own, "status": 0, "zone": "a"}]));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("he is asked who he is");
    stranger.abort();
    tasks.abort();
}

#[tokio::test]
async fn that_a_node_of_another_name_is_where_a_stranger_says_to_be_ends_nobody() {
    let at = [peers(), peers()];
    let member = Member::start("registry-0", "a", at[0], &at).await;
    let other = Member::start("registry-1", "a", at[1], &at).await;
    other.node().serves().await;
    let (at, tasks) = (peers(), Tracker::new());
    let asked = hand_on(at, other.peers, &tasks).await;
    let stranger = stranger("registry-0", at, member.peers).await;
    is_there_until_asked(&member, &asked).await;
    assert!(is_there(&member) && is_there(&other));
    stranger.abort();
    tasks.abort();
}
