//! Asks an instance whether it is there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_balance::Outcome;
use bowline_core::{Code, Context, Error, Instant, Operation, Result};
use bowline_rpc::proto::grpc::health::v1::health::Client as Health;
use bowline_rpc::proto::grpc::health::v1::{HealthCheckRequest, health_check_response::ServingStatus};
use bowline_rpc::{Body, BoxFuture, Caller, Transport};
use http::{Request, Response};

use crate::connection::Failure;
use crate::headers::prepare;
use crate::node::{NoPlace, Node, Place, Shared};

/// How long an instance may think about it, besides the time to connect. 2 s, as the registry's own checks.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts a probe under way.
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(crate) fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Asks over the connection that requests take. It counts as a request of the instance, so that it comes back by it or is
/// ejected by it. Begins when it is called, not when it is polled: whoever was chosen is under way.
pub(crate) fn probe(node: Node, shared: Arc<Shared>, counted: Counted) -> impl Future<Output = ()> + Send {
    let (load, begun) = (node.link.load.begin(), Instant::now());
    async move {
        let outcome = asked(&node, &shared).await;
        tracing::debug!(instance = %node.instance.id, ?outcome, "asked an instance whether it is there");
        let now = Instant::now();
        if load.end(outcome, now - begun, now) {
            shared.signals.look();
        }
        drop(counted);
    }
}

async fn asked(node: &Node, shared: &Shared) -> Outcome {
    let cx = Context::background().with_timeout(shared.options.connect_timeout + PATIENCE);
    let place = match node.link.place().await {
        Ok(place) => place,
        // Others found that out before, and it is dead already; or they are all waiting for it.
        Err(NoPlace::Full(_) | NoPlace::Unreachable { is_news: false, .. }) => return Outcome::Canceled,
        Err(NoPlace::Unreachable { is_news: true, .. }) => return Outcome::Unreachable,
    };
    let only = Only { node: node.clone(), place: Mutex::new(Some(place)) };
    let Ok(caller) = Caller::new(only, &shared.authority) else { return Outcome::Canceled };
    match Health::new(caller).check(&cx, HealthCheckRequest::default()).await {
        Ok(answer) if answer.status == ServingStatus::NOT_SERVING => Outcome::Unreachable,
        Ok(_) => Outcome::Answered,
        // Whoever does not know the service is there all the same.
        Err(error) if error.code() == Code::Unimplemented => Outcome::Answered,
        Err(error) => Outcome::of(Some(error.code())),
    }
}

/// The way to one instance, for one request.
struct Only {
    node: Node,
    place: Mutex<Option<Place>>,
}

impl Transport for Only {
    fn send(
        &self,
        cx: Context,
        _: Operation,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>>> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let node = self.node.clone();
        Box::pin(async move {
            let mut place = place.ok_or_else(|| Error::internal("a probe is one request"))?;
            let mut request = Box::new(request);
            prepare(&mut request, &cx, &node);
            match place.send(request).await {
                Ok(response) => Ok(response.map(|body| body.on_end(move |_| drop(place)))),
                // A stream that was refused, and a connection that was closed before it had the request: nobody is there.
                Err(Failure::Unsent(_, error) | Failure::Refused(error) | Failure::Broken(error)) => {
                    Err(error)
                }
            }
        })
    }
}
