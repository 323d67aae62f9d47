//! W3C Trace Context, level 1: <https://www.w3.org/TR/trace-context/>.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Rng;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Which trace a request belongs to and which span of it is the current one.
///
/// `tracestate` and `baggage` are carried on unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: (u64, u64),
    span: u64,
    flags: u8,
    carried: Option<Arc<Carried>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Carried {
    state: Option<HeaderValue>,
    baggage: Option<HeaderValue>,
}

impl TraceContext {
    /// Starts a new trace, not sampled.
    pub fn start(rng: &impl Rng) -> Self {
        // An all-zero id is invalid by the specification; setting a bit of a random number keeps it random enough.
        Self {
            trace: (rng.next_u64() | 1, rng.next_u64()),
            span: rng.next_u64() | 1,
            flags: 0,
            carried: None,
        }
    }

    /// Continues the trace that `headers` name. `None` if there is none or it is malformed; then a new one starts,
    /// as the specification demands.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let parent = headers.get(TRACEPARENT)?.as_bytes();
        let (trace, span, flags) = parse(parent)?;
        let (state, baggage) = (joined(headers, &TRACESTATE), joined(headers, &BAGGAGE));
        let carried = (state.is_some() || baggage.is_some()).then(|| Arc::new(Carried { state, baggage }));
        Some(Self { trace, span, flags, carried })
    }

    /// The span of a request with these headers: a child of the caller's, or the first of a new trace. Baggage is carried
    /// either way: it belongs to the request, not to its trace.
    pub fn of_request(headers: &HeaderMap, rng: &impl Rng) -> Self {
        if let Some(parent) = Self::from_headers(headers) {
            return parent.child(rng);
        }
        let baggage = joined(headers, &BAGGAGE);
        let carried = baggage.map(|baggage| Arc::new(Carried { state: None, baggage: Some(baggage) }));
        Self { carried, ..Self::start(rng) }
    }

    /// The same trace, a new span.
    #[must_use]
    pub fn child(&self, rng: &impl Rng) -> Self {
        Self { span: rng.next_u64() | 1, ..self.clone() }
    }

    /// Writes `traceparent` and what is carried with it.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut value[3..19], self.trace.0);
        write_hex(&mut value[19..35], self.trace.1);
        write_hex(&mut value[36..52], self.span);
        value[53] = digit(self.flags >> 4);
        value[54] = digit(self.flags & 15);
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(carried) = &self.carried {
            if let Some(state) = &carried.state {
                headers.insert(TRACESTATE, state.clone());
            }
            if let Some(baggage) = &carried.baggage {
                headers.insert(BAGGAGE, baggage.clone());
            }
        }
    }

    /// Whether the caller records this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace's id, printed as 32 hex digits.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        let (high, low) = self.trace;
        fmt::from_fn(move |f| write!(f, "{high:016x}{low:016x}"))
    }

    /// The span's id, printed as 16 hex digits.
    pub fn span_id(&self) -> impl fmt::Display + use<> {
        let span = self.span;
        fmt::from_fn(move |f| write!(f, "{span:016x}"))
    }
}

/// A list that may come as several headers, as one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next()?, values.next());
    let Some(second) = second else { return Some(first.clone()) };
    let all: Vec<&[u8]> = [first, second].into_iter().chain(values).map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&all.join(&b',')).ok()
}

fn parse(value: &[u8]) -> Option<((u64, u64), u64, u8)> {
    // version "-" trace-id "-" parent-id "-" flags; later versions may append more after another "-".
    if value.len() < 55 || value[2] != b'-' || value[35] != b'-' || value[52] != b'-' {
        return None;
    }
    let version = read_hex(&value[..2])?;
    let extended = value.len() > 55;
    if version == 0xff || (version == 0 && extended) || (extended && value[55] != b'-') {
        return None;
    }
    let trace = (read_hex(&value[3..19])?, read_hex(&value[19..35])?);
    let span = read_hex(&value[36..52])?;
    let flags = read_hex(&value[53..55])? as u8;
    (trace != (0, 0) && span != 0).then_some((trace, span, flags))
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    let mut number = 0;
    for digit in digits {
        // Upper case is invalid by the specification.
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number = number << 4 | u64::from(value);
    }
    Some(number)
}

const fn digit(value: u8) -> u8 {
    b"0123456789abcdef"[(value & 15) as usize]
}

/// Writes the low `4 * to.len()` bits of `number` as hex digits.
pub(crate) fn write_hex(to: &mut [u8], mut number: u64) {
    for place in to.iter_mut().rev() {
        *place = digit(number as u8);
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRng;

    fn headers(parent: &str) -> HeaderMap {
        HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_str(parent).unwrap())])
    }

    #[test]
    fn the_specifications_example_survives_a_hop() {
        let mut inbound = headers("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        inbound.insert(TRACESTATE, HeaderValue::from_static("congo=t61rcWkgMzE"));
        let trace = TraceContext::from_headers(&inbound).unwrap();
        assert!(trace.is_sampled());
        assert_eq!(trace.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.span_id().to_string(), "00f067aa0ba902b7");

        let mut outbound = HeaderMap::new();
        trace.write_headers(&mut outbound);
        assert_eq!(outbound, inbound);

        let child = trace.child(&SeededRng::new(1));
        assert_eq!(child.trace_id().to_string(), trace.trace_id().to_string());
        assert_ne!(child.span_id().to_string(), trace.span_id().to_string());
    }

    #[test]
    fn what_is_carried_may_be_several_headers_and_baggage_needs_no_parent() {
        let mut inbound = headers("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        for (name, value) in [(TRACESTATE, "a=1"), (TRACESTATE, "b=2"), (BAGGAGE, "c=3"), (BAGGAGE, "d=4")] {
            inbound.append(name, HeaderValue::from_static(value));
        }
        let mut outbound = HeaderMap::new();
        TraceContext::of_request(&inbound, &SeededRng::new(1)).write_headers(&mut outbound);
        assert_eq!(
            (&outbound[TRACESTATE], &outbound[BAGGAGE]),
            (&"a=1,b=2".parse().unwrap(), &"c=3,d=4".parse().unwrap())
        );
        inbound.remove(TRACEPARENT);
        outbound.clear();
        TraceContext::of_request(&inbound, &SeededRng::new(1)).write_headers(&mut outbound);
        assert_eq!(outbound[BAGGAGE], "c=3,d=4");
        assert!(!outbound.contains_key(TRACESTATE), "it belongs to the trace that nobody named");
    }

    #[test]
    fn malformed_parents_are_refused() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(TraceContext::from_headers(&headers(bad)), None, "{bad}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(TraceContext::from_headers(&headers(later)).is_some());
    }
}
