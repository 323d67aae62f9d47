//! Following a call from hop to hop, so that operators see deadlines shrink and cancellation spread.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline::prelude::*;
use bowline::rpc::BoxFuture;
use bowline::telemetry::{Gauge, Metrics};
use shop_api::common::v1::{Hop, TraceReply, TraceRequest, trace_error};
use shop_api::{catalog, inventory, order};

const MOST_HOPS: usize = 8;
const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// In thousands: a second or so.
const MOST_COMPUTED: i64 = 100_000;

/// A service that a call can be passed on to.
pub trait Peer: Send + Sync + 'static {
    /// Calls its `Trace` method.
    fn trace<'a>(&'a self, cx: &'a Context, request: TraceRequest) -> BoxFuture<'a, Result<TraceReply>>;
}

macro_rules! peers {
    ($($client:ty),*) => {$(
        impl Peer for $client {
            fn trace<'a>(&'a self, cx: &'a Context, request: TraceRequest) -> BoxFuture<'a, Result<TraceReply>> {
                Box::pin(<$client>::trace(self, cx, request))
            }
        }
    )*};
}

peers!(
    catalog::v1::catalog_service::Client,
    inventory::v1::inventory_service::Client,
    order::v1::order_service::Client
);

/// Answers a service's `Trace` method.
pub struct Tracer {
    service: String,
    peers: BTreeMap<&'static str, Box<dyn Peer>>,
    holding: Gauge,
}

impl Tracer {
    /// The tracer of `service`. The gauge `shop_trace_holding` counts the calls that it holds.
    pub fn new(service: impl Into<String>, metrics: &Metrics) -> Self {
        let holding =
            metrics.gauge("shop_trace_holding", "Calls of Trace that are held at this hop right now");
        Self { service: service.into(), peers: BTreeMap::new(), holding }
    }

    /// Adds a service that this one calls.
    #[must_use]
    pub fn peer(mut self, name: &'static str, peer: impl Peer) -> Self {
        self.peers.insert(name, Box::new(peer));
        self
    }

    /// Passes the call on to the next hop, or holds it here if this is the last.
    ///
    /// # Errors
    /// `UNKNOWN_HOP` and `TRACE_TOO_LONG`; what the next hop answers; why `cx` ended.
    pub async fn trace(&self, cx: &Context, mut request: TraceRequest) -> Result<TraceReply> {
        // First of all: what this hop was given, before it used any of it.
        let remaining_millis =
            cx.remaining().map_or(-1, |left| i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
        let here = Hop { service: self.service.clone(), remaining_millis, ..Default::default() };
        let hold = Duration::from_millis(u64::try_from(request.hold_millis).unwrap_or(0));
        if request.hops.len() > MOST_HOPS || hold > LONGEST_HOLD || request.compute > MOST_COMPUTED {
            return Err(trace_error::trace_too_long());
        }
        if request.hops.is_empty() {
            compute(request.compute);
            self.hold(cx, hold).await?;
            return Ok(TraceReply { hops: vec![here], ..Default::default() });
        }
        let next = request.hops.remove(0);
        let Some(peer) = self.peers.get(next.as_str()) else {
            let known = self.peers.keys().copied().collect::<Vec<_>>().join(", ");
            let message = format!("{} does not call `{next}`; it calls: {known}", self.service);
            return Err(trace_error::unknown_hop().with_message(message).with_metadata("hop", next));
        };
        let mut reply = peer.trace(cx, request).await?;
        reply.hops.insert(0, here);
        Ok(reply)
    }

    async fn hold(&self, cx: &Context, time: Duration) -> Result<()> {
        let _held = Held::new(&self.holding);
        cx.run(tokio::time::sleep(time)).await
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tracer({} calls {:?})", self.service, self.peers.keys())
    }
}

/// Keeps a processor busy with so many thousand multiplications.
fn compute(thousands: i64) {
    let mut product = 1_u64;
    for factor in 0..thousands.max(0).cast_unsigned() * 1_000 {
        product = std::hint::black_box(product.wrapping_mul(factor | 1));
    }
}

/// Counts a call for as long as it is held, however that ends.
struct Held<'a>(&'a Gauge);

impl<'a> Held<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that is a tracer in this process.
    struct Local(Tracer);

    impl Peer for Local {
        fn trace<'a>(&'a self, cx: &'a Context, request: TraceRequest) -> BoxFuture<'a, Result<TraceReply>> {
            Box::pin(self.0.trace(cx, request))
        }
    }

    fn chain(metrics: &Metrics) -> Tracer {
        let inventory = Tracer::new("inventory", metrics);
        let order = Tracer::new("order", &Metrics::new()).peer("inventory", Local(inventory));
        Tracer::new("shop", &Metrics::new()).peer("order", Local(order))
    }

    fn request(hops: &[&str], hold_millis: i64) -> TraceRequest {
        TraceRequest { hops: hops.iter().map(|h| (*h).into()).collect(), hold_millis, ..Default::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_hop_tells_what_it_had_left_of_the_deadline() {
        let cx = Context::background().with_timeout(Duration::from_secs(1));
        let reply = chain(&Metrics::new()).trace(&cx, request(&["order", "inventory"], 10)).await.unwrap();
        let hops: Vec<_> = reply.hops.iter().map(|h| (h.service.as_str(), h.remaining_millis)).collect();
        assert_eq!(hops, [("shop", 1000), ("order", 1000), ("inventory", 1000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_is_no_longer_held() {
        let metrics = Metrics::new();
        let cx = Context::background().with_timeout(Duration::from_millis(50));
        let tracer = chain(&metrics);
        let call = tracer.trace(&cx, request(&["order", "inventory"], 60_000));
        let look = async {
            tokio::task::yield_now().await;
            assert!(metrics.encode().unwrap().contains("shop_trace_holding 1"));
        };
        let (reply, ()) = tokio::join!(call, look);
        assert!(reply.unwrap_err().is_timeout());
        assert!(metrics.encode().unwrap().contains("shop_trace_holding 0"));
    }

    #[tokio::test]
    async fn routes_that_do_not_exist_or_are_too_long_are_refused() {
        let (cx, tracer) = (Context::background(), chain(&Metrics::new()));
        let error = tracer.trace(&cx, request(&["catalog"], 0)).await.unwrap_err();
        assert!(
            trace_error::is_unknown_hop(&error) && error.message().contains("it calls: order"),
            "{error}"
        );
        let error = tracer.trace(&cx, request(&["order"; 9], 0)).await.unwrap_err();
        assert!(trace_error::is_trace_too_long(&error));
        let long =
            [request(&[], 300_001), TraceRequest { compute: MOST_COMPUTED + 1, ..TraceRequest::default() }];
        for request in long {
            assert!(trace_error::is_trace_too_long(&tracer.trace(&cx, request).await.unwrap_err()));
        }
    }
}
