//! Sends copies of requests to a shadow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline_balance::{Mirror, REDIRECTS};
use bowline_core::{Context, Instant, MethodKind, SystemRng, Tenant};
use bowline_rpc::Body;
use http::Request;

use crate::attempt::{Call, copy_of};
use crate::balance::Mirroring;
use crate::headers::write_context;
use crate::nodes::Nodes;

/// Copies requests of production. The original never waits for a copy, and learns nothing of how it went.
pub(crate) struct Mirrors {
    decision: Mirror,
    options: Mirroring,
    under_way: Arc<AtomicUsize>,
}

impl Mirrors {
    pub(crate) fn new(options: &Mirroring) -> Self {
        let Mirroring { tenant, percent, per_second, .. } = options;
        let decision = Mirror::new(tenant.clone(), *percent, *per_second);
        Self { decision, options: options.clone(), under_way: Arc::default() }
    }

    /// Sends a copy of `request` if there is to be one: in a task of the channel's.
    pub(crate) fn copy(&self, nodes: &Arc<Nodes>, cx: &Context, kind: MethodKind, request: &Request<Body>) {
        if request.body().as_full().is_none() {
            return;
        }
        let Some(shadow) = self.decision.copies(cx.tenant(), Instant::now(), &SystemRng) else { return };
        let Some(under_way) = UnderWay::enter(&self.under_way, self.options.at_once) else {
            nodes.shared.metrics.mirrored("too_many");
            return;
        };
        let Some(mut copy) = copy_of(request) else { return };
        let cx = self.context(cx, shadow);
        write_context(copy.headers_mut(), &cx);
        // They were production's, which is not redirected: the copy is not led to where it has effects.
        copy.headers_mut().remove(REDIRECTS);
        let at = Arc::clone(nodes);
        nodes.shared.tasks.spawn(async move {
            let call = Call { strict: true, redirected: false, ..Call::of(&cx, kind) };
            let delivered = cx.run(at.deliver(&call, copy, &[])).await;
            let delivered = delivered.and_then(|delivered| delivered.result.map_err(|failed| failed.error));
            let result = match delivered {
                Ok(answer) => match answer.dismissed() {
                    None => "answered",
                    Some(_) => "failed",
                },
                Err(error) if error.is_timeout() => "timed_out",
                Err(error) if error.reason() == "TENANT_UNROUTABLE" || error.reason() == "NO_INSTANCE" => {
                    "no_instance"
                }
                Err(_) => "failed",
            };
            at.shared.metrics.mirrored(result);
            drop(under_way);
        });
    }

    fn context(&self, cx: &Context, shadow: &Tenant) -> Context {
        cx.detached().with_tenant(shadow.clone()).with_timeout(self.options.timeout)
    }
}

/// Counts a copy under way.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn enter(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let this = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::AcqRel) < limit).then_some(this)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
