//! From a DNS query to its answer: no sockets.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bowline_core::{Endpoint, Rng};
use bowline_registry_bowline::api::bowline::registry::v1::Emptiness;
use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record as DnsRecord, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::DnsConfig;
use super::name::{Asked, of_address, zone};
use crate::store::{List, Record, ServiceKey};

/// The most bytes of an answer over UDP that crosses common networks in one piece (DNS flag day 2020).
const UDP_MOST: u16 = 1232;
/// What a client takes over UDP that does not say (RFC 1035).
const UDP_LEAST: u16 = 512;

/// Answers a query; `None` if it deserves no answer. `look_up` reads the registry; it returns `None` while that does not know
/// yet what there is.
pub(super) fn answer(
    query: &[u8],
    over_udp: bool,
    config: &DnsConfig,
    rng: &impl Rng,
    look_up: impl Fn(&ServiceKey) -> Option<Arc<List>>,
) -> Option<Vec<u8>> {
    let message = match Message::from_vec(query) {
        Ok(message) => message,
        Err(_) => {
            // Whoever got the head right is told that the rest is wrong.
            let header = Header::read(&mut BinDecoder::new(query)).ok()?;
            let metadata = header.metadata;
            let is_query = metadata.message_type == MessageType::Query;
            return is_query.then(|| refusal(&metadata, ResponseCode::FormErr).to_vec().ok())?;
        }
    };
    if message.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut response = respond(&message, config, rng, look_up);
    let room = message.edns.as_ref().map_or(UDP_LEAST, |edns| edns.max_payload().clamp(UDP_LEAST, UDP_MOST));
    if let Some(edns) = &message.edns {
        let mut own = Edns::new();
        own.set_max_payload(UDP_MOST).set_version(0);
        if edns.version() > 0 {
            response = refusal(&message.metadata, ResponseCode::BADVERS);
            own.set_rcode_high(ResponseCode::BADVERS.high());
        }
        response.set_edns(own);
    }
    let bytes = response.to_vec().ok()?;
    if over_udp && bytes.len() > usize::from(room) {
        // Asked again over TCP, there is room for all of it.
        return response.truncate().to_vec().ok();
    }
    Some(bytes)
}

fn refusal(asked: &Metadata, code: ResponseCode) -> Message {
    let mut response = Message::response(asked.id, asked.op_code);
    response.metadata = Metadata::response_from_request(asked);
    response.metadata.response_code = code;
    response
}

fn respond(
    message: &Message,
    config: &DnsConfig,
    rng: &impl Rng,
    look_up: impl Fn(&ServiceKey) -> Option<Arc<List>>,
) -> Message {
    let refuse = |code| refusal(&message.metadata, code);
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refuse(ResponseCode::Refused);
    }
    let Some(asked) = Asked::of(query.name()) else {
        // This server knows one zone and asks nobody else.
        return refuse(ResponseCode::Refused);
    };
    let mut response = refuse(ResponseCode::NoError);
    response.metadata.authoritative = true;
    response.add_query(query.clone());
    let ttl = u32::try_from(config.ttl.as_secs()).unwrap_or(u32::MAX);
    let records = Records { query, ttl };
    match asked {
        Asked::Nothing => response.metadata.response_code = ResponseCode::NXDomain,
        Asked::Zone if records.wants(RecordType::SOA) => {
            response.add_answer(records.soa(query.name().clone()));
        }
        Asked::Zone => {}
        Asked::Address(address) => {
            response.add_answers(records.address(query.name(), address));
        }
        Asked::Service { key, tenant, zone } => {
            // A resolver asks another node then; "there is none" would be believed.
            let Some(list) = look_up(&key) else { return refuse(ResponseCode::ServFail) };
            if list.records.is_empty() && list.empty == Emptiness::EMPTINESS_UNKNOWN {
                response.metadata.response_code = ResponseCode::NXDomain;
            }
            let mut chosen = choose(&list, tenant.as_deref(), zone.as_deref());
            sample(&mut chosen, config.answers, rng);
            records.of_instances(&mut response, &chosen);
        }
    }
    if response.answers.is_empty() {
        // How long that may be remembered (RFC 2308).
        response.add_authority(records.soa(zone()));
    }
    response
}

/// The instances that a caller is to be sent to: the tenant's own, else the base's; those of the zone, if there are any.
fn choose<'a>(list: &'a List, tenant: Option<&str>, zone: Option<&str>) -> Vec<&'a Record> {
    let usable = list.records.iter().map(|record| &**record);
    let usable: Vec<&Record> =
        usable.filter(|record| record.is_up() && record.instance().weight != Some(0)).collect();
    let of_tenant = |name: &str| -> Vec<&Record> {
        usable.iter().copied().filter(|record| record.instance().tenant == name).collect()
    };
    let own = tenant.map(of_tenant).filter(|own| !own.is_empty());
    let chosen = own.unwrap_or_else(|| of_tenant(""));
    let Some(zone) = zone else { return chosen };
    let here: Vec<&Record> =
        chosen.iter().copied().filter(|record| record.instance().zone.eq_ignore_ascii_case(zone)).collect();
    if here.is_empty() { chosen } else { here }
}

/// As many as are told, in random order (Fisher and Yates): resolvers hand on the order, and callers take the first.
fn sample<T>(items: &mut Vec<T>, most: usize, rng: &impl Rng) {
    let count = items.len().min(most);
    for at in 0..count {
        let left = (items.len() - at) as u128;
        let other = at + ((u128::from(rng.next_u64()) * left) >> 64) as usize;
        items.swap(at, other);
    }
    items.truncate(count);
}

struct Records<'a> {
    query: &'a Query,
    ttl: u32,
}

impl Records<'_> {
    fn wants(&self, kind: RecordType) -> bool {
        self.query.query_type() == kind || self.query.query_type() == RecordType::ANY
    }

    fn record(&self, name: Name, data: RData) -> DnsRecord {
        DnsRecord::from_rdata(name, self.ttl, data)
    }

    fn of_instances(&self, response: &mut Message, instances: &[&Record]) {
        let name = self.query.name();
        let mut hosts = BTreeSet::new();
        let mut targets = BTreeSet::new();
        for record in instances {
            let instance = record.instance();
            let endpoints = instance.endpoints.iter().filter_map(|e| e.parse::<Endpoint>().ok());
            for endpoint in endpoints.filter(|endpoint| endpoint.port() != 0) {
                let address: Option<IpAddr> = endpoint.host().parse().ok();
                if let Some(address) = address.filter(|address| hosts.insert(*address)) {
                    response.add_answers(self.address(name, address));
                }
                if !self.wants(RecordType::SRV) {
                    continue;
                }
                let target = match address {
                    Some(address) => Some(of_address(address)),
                    None => Name::from_ascii(format!("{}.", endpoint.host().trim_end_matches('.'))).ok(),
                };
                let Some(target) = target else { continue };
                // A lower number is tried first; all are alike. A weight has 16 bits.
                let weight = u16::try_from(instance.weight.unwrap_or(100)).unwrap_or(u16::MAX);
                let data = RData::SRV(SRV::new(0, weight, endpoint.port(), target.clone()));
                response.add_answer(self.record(name.clone(), data));
                if let Some(address) = address.filter(|address| targets.insert(*address)) {
                    response.add_additional(self.record(target, data_of(address)));
                }
            }
        }
    }

    /// The address as a record, if its kind was asked for.
    fn address(&self, name: &Name, address: IpAddr) -> Option<DnsRecord> {
        let kind = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        self.wants(kind).then(|| self.record(name.clone(), data_of(address)))
    }

    /// The zone's record: there is no secondary server, so only the time that a "no" may be remembered matters.
    fn soa(&self, name: Name) -> DnsRecord {
        let data = SOA::new(zone(), zone(), 1, 3600, 600, 86_400, self.ttl);
        self.record(name, RData::SOA(data))
    }
}

fn data_of(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}
