//! How a call and its attempts end, in figures.

use std::sync::Arc;
use std::time::Duration;

use bowline_balance::{InFlight, Outcome};
use bowline_core::{Code, Context, Instant, MethodKind};
use bowline_rpc::End;
use bowline_telemetry::InFlight as Measured;

use crate::node::{Node, Shared};

/// Measures a call. Dropped without a word it was given up: because its time was over, or because nobody waits any more.
pub(crate) struct Measuring {
    pub(crate) measured: Option<Measured>,
    pub(crate) cx: Context,
    pub(crate) started: Instant,
}

impl Measuring {
    pub(crate) fn end(mut self, code: Option<Code>) {
        self.record(code);
    }

    pub(crate) fn given_up(&self) -> Code {
        given_up(&self.cx)
    }

    fn record(&mut self, code: Option<Code>) {
        if let Some(measured) = self.measured.take() {
            measured.end(code, self.started.elapsed());
        }
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        if self.measured.is_some() {
            let code = self.given_up();
            self.record(Some(code));
        }
    }
}

/// Why nobody waits for the answer any more.
fn given_up(cx: &Context) -> Code {
    cx.error().map_or(Code::Canceled, |error| error.code())
}

/// A request that an instance has, or is about to get. Dropped without a word, the caller went away: if its time was
/// over, the instance held the request for too long.
pub(crate) struct Flight<'a> {
    cx: &'a Context,
    /// Less time than this is no fair chance.
    fair: Duration,
    shared: &'a Arc<Shared>,
    load: Option<InFlight>,
    begun: Instant,
}

impl<'a> Flight<'a> {
    pub(crate) fn begin(node: &Node, cx: &'a Context, fair: Duration, shared: &'a Arc<Shared>) -> Self {
        Self { cx, fair, shared, load: Some(node.link.load.begin()), begun: Instant::now() }
    }

    /// It ended without an answer, and this says what of the instance.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.land(outcome);
    }

    /// The instance has answered; the end is that of its answer's body. Of a stream its `head` is what tells of the
    /// instance, for its end may be hours away: one that is a failure is the end.
    pub(crate) fn answered(
        mut self,
        kind: MethodKind,
        head: impl FnOnce() -> Option<Code>,
    ) -> Option<Landing> {
        let is_stream = kind != MethodKind::Unary;
        if is_stream && let Some(code) = head() {
            self.land(of_stream(Some(code)));
            return None;
        }
        let mut load = self.load.take()?;
        let head = is_stream.then(Instant::now);
        if let Some(now) = head
            && load.begins_to_answer(now - self.begun, now)
        {
            self.shared.signals.look();
        }
        Some(Landing { load, shared: Arc::clone(self.shared), begun: self.begun, head })
    }

    fn land(&mut self, outcome: Outcome) {
        if let Some(load) = self.load.take() {
            let now = Instant::now();
            if load.end(outcome, now - self.begun, now) {
                self.shared.signals.look();
            }
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.load.is_some() {
            let code = given_up(self.cx);
            let fair = code != Code::DeadlineExceeded || self.begun.elapsed() >= self.fair;
            self.land(if fair { Outcome::of(Some(code)) } else { Outcome::Canceled });
        }
    }
}

/// What the end of a stream says of its instance. When its time is over its caller has decided.
fn of_stream(code: Option<Code>) -> Outcome {
    match code {
        Some(Code::DeadlineExceeded) => Outcome::Canceled,
        code => Outcome::of(code),
    }
}

/// A request whose answer has begun.
pub(crate) struct Landing {
    load: InFlight,
    shared: Arc<Shared>,
    begun: Instant,
    /// When the head of a stream came: how long it lasts says nothing of its instance, and is nobody's fault.
    head: Option<Instant>,
}

impl Landing {
    /// The body came to its end; `code` is what that is for the caller.
    pub(crate) fn end(self, end: &End<'_>, code: Option<Code>) {
        let Self { load, shared, begun, head } = self;
        let outcome = match (end, code) {
            // It broke off, and not because we dropped it.
            (End::Failed(_), Some(Code::Canceled)) => Outcome::Unreachable,
            _ if head.is_some() => of_stream(code),
            _ => Outcome::of(code),
        };
        let now = Instant::now();
        if load.end(outcome, head.unwrap_or(now) - begun, now) {
            shared.signals.look();
        }
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::task::Tracker;
    use bowline_core::{Endpoint, Error, Instance};
    use bowline_telemetry::{CallMetrics, Metrics, Side};

    use super::*;
    use crate::ChannelOptions;
    use crate::connect::Connector;
    use crate::node::Link;
    use crate::rules::FAIR;
    use crate::signals::Signals;

    fn stage() -> (Node, Arc<Shared>) {
        let options = ChannelOptions::default();
        let shared = Arc::new(Shared {
            connector: Connector::new(&options).unwrap(),
            options,
            tasks: Tracker::new(),
            signals: Signals::default(),
            metrics: CallMetrics::new(&Metrics::new(), Side::Client).channel("test"),
            authority: "test".into(),
            caller: None,
        });
        let endpoint = Endpoint::memory("nobody");
        let instance = Arc::new(Instance::new("test", "a"));
        (Node { instance, link: Link::new(endpoint, Arc::clone(&shared)) }, shared)
    }

    /// Failures in a row and gateway errors in a row; nothing is left in flight.
    fn failures(node: &Node) -> (u32, u32) {
        assert_eq!(node.link.load.pending(), 0);
        node.link.load.health().failures()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_dropped_is_held_against_its_instance_only_if_its_time_was_over() {
        let (node, shared) = stage();
        let cx = Context::background().with_timeout(Duration::from_secs(1));
        drop(Flight::begin(&node, &cx, FAIR, &shared));
        assert_eq!(failures(&node), (0, 0), "nobody waits any more");
        let (canceled, canceller) = cx.with_cancel();
        let flight = Flight::begin(&node, &canceled, FAIR, &shared);
        canceller.cancel();
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(flight);
        assert_eq!(failures(&node), (0, 0), "its caller gave up");
        drop(Flight::begin(&node, &cx, FAIR, &shared));
        assert_eq!(failures(&node), (0, 0), "it had no time to answer");
        for _ in 0..2 {
            let flight = Flight::begin(&node, &cx, FAIR, &shared);
            tokio::time::advance(FAIR).await;
            drop(flight);
        }
        assert_eq!(failures(&node), (2, 2), "the instance held it");
        assert!(shared.signals.take().look, "somebody should look at it");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_with_its_body() {
        let (node, shared) = stage();
        let cx = Context::background();
        let landed = |kind, end: &End<'_>, code| {
            let landing = Flight::begin(&node, &cx, FAIR, &shared).answered(kind, || None).unwrap();
            assert_eq!(node.link.load.pending(), 1);
            landing.end(end, code);
            failures(&node)
        };
        let (unary, stream) = (MethodKind::Unary, MethodKind::ServerStreaming);
        let broken = Error::canceled("the body broke off");
        assert_eq!(landed(unary, &End::Failed(&broken), Some(Code::Canceled)), (1, 1));
        assert_eq!(landed(unary, &End::Complete(None), Some(Code::Internal)), (2, 0));
        assert_eq!(landed(unary, &End::Dropped, Some(Code::DeadlineExceeded)), (3, 1));
        assert_eq!(landed(stream, &End::Dropped, Some(Code::DeadlineExceeded)), (3, 1), "a stream may last");
        assert_eq!(landed(unary, &End::Dropped, Some(Code::Canceled)), (3, 1));
        assert_eq!(landed(unary, &End::Complete(None), Some(Code::ResourceExhausted)), (3, 1));
        assert_eq!(landed(unary, &End::Complete(None), Some(Code::NotFound)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_as_fast_as_its_head() {
        let (node, shared) = stage();
        let cx = Context::background();
        let landing =
            Flight::begin(&node, &cx, FAIR, &shared).answered(MethodKind::BidiStreaming, || None).unwrap();
        assert!(node.link.load.latency(Instant::now()) > 0.0, "it is known with the head");
        tokio::time::advance(Duration::from_secs(60)).await;
        landing.end(&End::Complete(None), None);
        assert!(node.link.load.latency(Instant::now()) < 0.001);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_head_is_a_failure_is_over_though_nobody_reads_its_body() {
        let (node, shared) = stage();
        let cx = Context::background();
        let answered = |code| {
            Flight::begin(&node, &cx, FAIR, &shared).answered(MethodKind::ServerStreaming, || Some(code))
        };
        assert!(answered(Code::Unavailable).is_none());
        assert_eq!(failures(&node), (1, 1));
        assert!(answered(Code::Internal).is_none());
        assert_eq!(failures(&node), (2, 0));
        assert!(answered(Code::DeadlineExceeded).is_none());
        assert_eq!(failures(&node), (2, 0), "a stream may last");
        assert!(answered(Code::NotFound).is_none());
        assert_eq!(failures(&node), (0, 0));
    }
}
