//! Services found by name, over real sockets: asked by hand, and by bowline's own resolver.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use bowline::app::Server as _;
use bowline_core::{Context, Endpoint, Instance, InstanceStatus, Tenant};
use bowline_discovery::{Lookup, Registrar, Registration, SystemLookup};
use bowline_registry::{Config, Dns, DnsConfig, Node};
use common::{Link, Running, SEC, instance, within};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// A node, its names, and what is registered there.
struct Fixture {
    running: Running,
    dns: Dns,
    addr: SocketAddr,
    registered: Vec<Box<dyn Registration>>,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let running = Running::start(config);
        let config = DnsConfig { answers: 200, ..DnsConfig::at("127.0.0.1:0".parse().unwrap()) };
        let mut dns = Dns::new(running.node.clone(), config);
        dns.bind(&within(30 * SEC)).await.unwrap();
        let addr = dns.addr().unwrap();
        Self { running, dns, addr, registered: Vec::new() }
    }

    async fn register(&mut self, instance: Instance) {
        let registrar = Link::to(&self.running).client();
        self.registered.push(registrar.register(&within(30 * SEC), instance).await.unwrap());
    }

    async fn udp(&self, query: &[u8]) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(query, self.addr).await.unwrap();
        let mut answer = [0; 4096];
        let received = tokio::time::timeout(30 * SEC, socket.recv(&mut answer));
        let length = received.await.unwrap().unwrap();
        Message::from_vec(&answer[..length]).unwrap()
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.udp(&query(name, kind).to_vec().unwrap()).await
    }

    /// The addresses of a name, sorted.
    async fn addresses(&self, name: &str) -> Vec<String> {
        let answer = self.ask(name, RecordType::A).await;
        let mut all: Vec<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        all.sort();
        all
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn at(id: &str, address: &str) -> Instance {
    let mut instance = instance("catalog", id);
    instance.endpoints = vec![Endpoint::http(address, 9000)];
    instance
}

#[tokio::test]
async fn a_name_leads_to_the_instances_of_its_service_tenant_and_zone() {
    let mut f = Fixture::start().await;
    f.register(Instance { zone: "z1".into(), ..at("a", "10.0.0.1") }).await;
    f.register(Instance { zone: "z2".into(), weight: 7, ..at("b", "10.0.0.2") }).await;
    f.register(Instance { tenant: Tenant::new("canary").unwrap(), ..at("c", "10.0.0.3") }).await;
    f.register(Instance { status: InstanceStatus::OutOfService, ..at("d", "10.0.0.4") }).await;
    f.register(Instance { weight: 0, ..at("e", "10.0.0.5") }).await;
    f.register(at("f", "fd00::6")).await;

    let name = "catalog.default.default.bowline.";
    assert_eq!(f.addresses(name).await, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(f.addresses("CATALOG.Default.default.bowline.").await, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(f.addresses(&format!("z2._zone.{name}")).await, ["10.0.0.2"]);
    assert_eq!(f.addresses(&format!("z9._zone.{name}")).await, ["10.0.0.1", "10.0.0.2"], "else all");
    assert_eq!(f.addresses(&format!("canary._tenant.{name}")).await, ["10.0.0.3"]);
    assert_eq!(
        f.addresses(&format!("other._tenant.{name}")).await,
        ["10.0.0.1", "10.0.0.2"],
        "else the base's"
    );
    let six = f.ask(name, RecordType::AAAA).await;
    assert_eq!(six.answers.iter().map(|r| r.data.to_string()).collect::<Vec<_>>(), ["fd00::6"]);
    assert!(six.metadata.authoritative && six.answers.iter().all(|record| record.ttl == 5));

    let services = f.ask(&format!("_grpc._tcp.{name}"), RecordType::SRV).await;
    let mut told: Vec<_> = services
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((srv.target.to_ascii(), srv.port, srv.weight)),
            _ => None,
        })
        .collect();
    told.sort();
    assert_eq!(told[0], ("ip-10-0-0-1.addr.bowline.".into(), 9000, 100));
    assert_eq!(told[1], ("ip-10-0-0-2.addr.bowline.".into(), 9000, 7));
    assert_eq!((told.len(), services.additionals.len()), (3, 3));
    assert_eq!(f.addresses("ip-10-0-0-2.addr.bowline.").await, ["10.0.0.2"]);

    f.registered.remove(0).deregister(&within(30 * SEC)).await.unwrap();
    assert_eq!(f.addresses(name).await, ["10.0.0.2"], "told at once; what resolvers remember lasts the TTL");
}

#[tokio::test]
async fn what_does_not_fit_is_truncated_and_asked_again_over_tcp() {
    let mut f = Fixture::start().await;
    for n in 0..100 {
        f.register(at(&format!("i{n}"), &format!("10.0.1.{n}"))).await;
    }
    let name = "catalog.default.default.bowline.";
    let truncated = f.ask(name, RecordType::A).await;
    assert!(truncated.metadata.truncation && truncated.answers.is_empty());
    let mut roomy = query(name, RecordType::A);
    let mut edns = Edns::new();
    roomy.set_edns(edns.set_max_payload(4096).clone());
    let truncated = f.udp(&roomy.to_vec().unwrap()).await;
    assert!(truncated.metadata.truncation, "no more than crosses networks in one piece");
    assert_eq!(truncated.edns.unwrap().max_payload(), 1232);

    let mut stream = TcpStream::connect(f.addr).await.unwrap();
    for _ in 0..3 {
        let query = query(name, RecordType::A).to_vec().unwrap();
        stream.write_u16(u16::try_from(query.len()).unwrap()).await.unwrap();
        stream.write_all(&query).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 100);
    }

    // A real client does all that by itself.
    let resolver = SystemLookup::with_servers([f.addr]).unwrap();
    let answer = resolver.addresses(name).await.unwrap();
    assert_eq!(answer.records.len(), 100);
    assert!(answer.ttl <= Duration::from_secs(5), "{:?}", answer.ttl);
    let services = resolver.services(&format!("_grpc._tcp.{name}")).await.unwrap();
    assert_eq!(services.records.len(), 100);
}

#[tokio::test]
async fn every_kind_of_no_is_told_apart() {
    let mut f = Fixture::start().await;
    f.register(Instance { status: InstanceStatus::Starting, ..at("a", "10.0.0.1") }).await;
    let code = |answer: &Message| answer.metadata.response_code;

    let unknown = f.ask("basket.default.default.bowline.", RecordType::A).await;
    assert_eq!((code(&unknown), unknown.authorities.len()), (ResponseCode::NXDomain, 1));
    let unusable = f.ask("catalog.default.default.bowline.", RecordType::A).await;
    assert_eq!((code(&unusable), unusable.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(unusable.authorities[0].record_type(), RecordType::SOA, "how long that may be remembered");
    let malformed = f.ask("nothing.bowline.", RecordType::A).await;
    assert_eq!(code(&malformed), ResponseCode::NXDomain);
    let foreign = f.ask("example.org.", RecordType::A).await;
    assert_eq!(code(&foreign), ResponseCode::Refused);
    let zone = f.ask("bowline.", RecordType::SOA).await;
    assert_eq!(zone.answers[0].record_type(), RecordType::SOA);

    let mut notify = query("bowline.", RecordType::SOA);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(code(&f.udp(&notify.to_vec().unwrap()).await), ResponseCode::NotImp);
    let mut two = query("bowline.", RecordType::SOA);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&f.udp(&two.to_vec().unwrap()).await), ResponseCode::FormErr);
    let cut = &query("catalog.default.default.bowline.", RecordType::A).to_vec().unwrap()[..20];
    assert_eq!(code(&f.udp(cut).await), ResponseCode::FormErr);
    let mut newer = query("bowline.", RecordType::SOA);
    let mut edns = Edns::new();
    newer.set_edns(edns.set_version(1).clone());
    // 16 is BADVERS here, and BADSIG elsewhere.
    assert_eq!(u16::from(code(&f.udp(&newer.to_vec().unwrap()).await)), 16);
}

#[tokio::test]
async fn what_is_no_query_gets_no_answer_and_harms_nothing() {
    let f = Fixture::start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = query("bowline.", RecordType::SOA);
    answer.metadata.message_type = MessageType::Response;
    for garbage in [&b""[..], b"x", &[0xff; 600], &answer.to_vec().unwrap()] {
        socket.send_to(garbage, f.addr).await.unwrap();
    }
    // A query that is too long ends its connection; one that never comes holds up nobody.
    let mut long = TcpStream::connect(f.addr).await.unwrap();
    long.write_u16(u16::MAX).await.unwrap();
    let silent = TcpStream::connect(f.addr).await.unwrap();
    assert_eq!(tokio::time::timeout(30 * SEC, long.read(&mut [0; 9])).await.unwrap().unwrap_or(0), 0);
    let zone = f.ask("bowline.", RecordType::SOA).await;
    assert_eq!(zone.answers.len(), 1);
    drop(silent);
    tokio::time::timeout(30 * SEC, f.dns.drain(&Context::background())).await.unwrap().unwrap();
    assert!(TcpStream::connect(f.addr).await.is_err(), "it has stopped listening");
}

#[tokio::test]
async fn a_node_that_still_learns_what_there_is_says_so_and_not_that_there_is_none() {
    let node = Node::named(Config::default(), "registry-1", "a").unwrap();
    let mut dns = Dns::new(node, DnsConfig::at("127.0.0.1:0".parse().unwrap()));
    dns.bind(&within(30 * SEC)).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let query = query("catalog.default.default.bowline.", RecordType::A).to_vec().unwrap();
    socket.send_to(&query, dns.addr().unwrap()).await.unwrap();
    let mut answer = [0; 4096];
    let length = tokio::time::timeout(30 * SEC, socket.recv(&mut answer)).await.unwrap().unwrap();
    let answer = Message::from_vec(&answer[..length]).unwrap();
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
    dns.abort();
}

#[tokio::test]
async fn where_there_are_tokens_names_are_told_of_what_anybody_may_read() {
    for (allow, expected) in [(["register"].as_slice(), 0), (["register", "read"].as_slice(), 1)] {
        let access = serde_json::json!({"access": {
            "tokens": [{"token": "the-token-of-the-shop", "namespaces": ["*"], "allow": ["read"]}],
            "anonymous": {"namespaces": ["default"], "allow": allow},
        }});
        let mut dns = Fixture::with(serde_json::from_value(access).unwrap()).await;
        dns.register(instance("catalog", "c")).await;
        let found = dns.addresses("catalog.default.default.bowline.").await;
        assert_eq!(found.len(), expected, "{allow:?} {found:?}");
    }
}
