//! Names asked of a real name server, over UDP on this machine.
#![allow(clippy::unwrap_used, reason = "a test program throughout")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::Context;
use bowline_core::task::Tracker;
use bowline_discovery::{Discovery, Dns, Emptiness, Lookup, Snapshot, State, SystemLookup};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// What the name server knows.
fn answers(asked: &str, kind: RecordType) -> Option<Vec<RData>> {
    let records = match (asked, kind) {
        ("catalog.test.", RecordType::A) => [1, 2].map(|n| RData::A(A(Ipv4Addr::new(10, 0, 0, n)))).into(),
        ("catalog.test.", RecordType::AAAA) => vec![RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))],
        ("one.test.", RecordType::A) => vec![RData::A(A(Ipv4Addr::new(10, 0, 0, 9)))],
        ("one.test.", _) => Vec::new(),
        ("_grpc._tcp.catalog.test.", RecordType::SRV) => {
            vec![RData::SRV(SRV::new(1, 30, 9001, name("one.test.")))]
        }
        _ => return None,
    };
    Some(records)
}

async fn serve(socket: UdpSocket) {
    let mut buffer = [0; 1_500];
    while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
        let query = Message::from_vec(&buffer[..size]).unwrap();
        let question = query.queries[0].clone();
        let mut reply = query.into_response();
        let asked = question.name().to_ascii().to_lowercase();
        match answers(&asked, question.query_type()) {
            Some(records) => {
                let records = records.into_iter().map(|r| Record::from_rdata(question.name().clone(), 30, r));
                reply.add_answers(records);
            }
            None => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
    }
}

/// A name server for as long as the tracker is not aborted.
async fn server() -> (Tracker, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (tracker, address) = (Tracker::new(), socket.local_addr().unwrap());
    tracker.spawn(serve(socket));
    (tracker, address)
}

async fn resolve(address: SocketAddr, service: &str) -> Arc<Snapshot> {
    let dns = Dns::new(Arc::new(SystemLookup::with_servers([address]).unwrap()));
    let cx = Context::background().with_timeout(Duration::from_secs(20));
    dns.watch(service).ready(&cx).await.unwrap()
}

fn endpoints(snapshot: &Snapshot) -> Vec<String> {
    snapshot.instances.iter().map(|i| i.endpoints[0].to_string()).collect()
}

#[tokio::test]
async fn a_host_is_all_its_addresses_of_both_families() {
    let (_server, address) = server().await;
    let snapshot = resolve(address, "catalog.test:80").await;
    assert_eq!(endpoints(&snapshot), ["http://10.0.0.1:80", "http://10.0.0.2:80", "http://[::1]:80"]);
}

#[tokio::test]
async fn service_records_are_followed_to_addresses() {
    let (_server, address) = server().await;
    let snapshot = resolve(address, "_grpc._tcp.catalog.test").await;
    assert_eq!(endpoints(&snapshot), ["http://10.0.0.9:9001"]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_definite_answer_and_an_address_its_own() {
    let (_server, address) = server().await;
    assert_eq!(resolve(address, "absent.test:80").await.state, State::Empty(Emptiness::Unknown));
    assert_eq!(endpoints(&*resolve(address, "127.0.0.1:80").await), ["http://127.0.0.1:80"]);
}

#[tokio::test]
async fn answers_carry_their_time_to_live_and_a_silent_server_is_a_failure() {
    let (server, address) = server().await;
    let lookup = SystemLookup::with_servers([address]).unwrap();
    let ttl = lookup.addresses("one.test").await.unwrap().ttl;
    assert!(ttl > Duration::from_secs(25) && ttl <= Duration::from_secs(30), "{ttl:?}");
    server.abort();
    server.wait().await;
    let error = lookup.addresses("one.test").await.unwrap_err();
    assert!(error.is_temporary() && error.message().contains("gave no answer"), "{error}");
}
