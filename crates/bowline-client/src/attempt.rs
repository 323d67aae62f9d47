//! Sending a request: once, and again where it provably was not begun.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bowline_balance::{Ask, Index, Outcome, Request as Route};
use bowline_core::{Code, Context, Error, Instance, Instant, MethodKind, Result, SystemRng};
use bowline_rpc::headers::{grpc_failure, grpc_status};
use bowline_rpc::{Body, End};
use http::{HeaderMap, Request, Response};

use crate::connection::Failure;
use crate::headers::prepare;
use crate::measuring::{Flight, Landing, Measuring};
use crate::node::{NoPlace, Node, Place};
use crate::nodes::Nodes;
use crate::rules::FAIR;

/// How often one call is sent at most where servers refuse it. Each time but the last it was provably not begun. Whom it cannot
/// reach does not count: it is tried with each.
const ATTEMPTS: usize = 8;

/// What all attempts of a call have in common.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) cx: &'a Context,
    /// Whose deadline the server is told, where that is not `cx`'s.
    pub(crate) told: Option<&'a Context>,
    /// A server that did not answer in less than this is not to blame.
    pub(crate) fair: Duration,
    pub(crate) kind: MethodKind,
    /// Only instances of the tenant's own may serve it.
    pub(crate) strict: bool,
    /// It goes where its metadata redirects it.
    pub(crate) redirected: bool,
    /// Where to note who was picked, for who wants another one beside it.
    pub(crate) picked: Option<&'a Mutex<Option<Arc<Instance>>>>,
}

impl<'a> Call<'a> {
    /// One that goes where its context says.
    pub(crate) fn of(cx: &'a Context, kind: MethodKind) -> Self {
        Self { cx, told: None, fair: FAIR, kind, strict: false, redirected: true, picked: None }
    }

    /// One that gets no more time than this, which is not its caller's choice.
    pub(crate) fn within(self, time: Duration) -> Self {
        // A timer began a moment before the request left.
        Self { fair: self.fair.min(time * 9 / 10), ..self }
    }

    fn route(&self) -> Route<'a> {
        let route = match self.redirected {
            true => Route::in_context(self.cx),
            false => Route::of(self.cx.tenant()),
        };
        if self.strict { route.strictly() } else { route }
    }
}

/// Instances that a call was sent to in vain.
#[derive(Default)]
pub(crate) struct Tried(Vec<(Arc<Instance>, bool)>);

impl Tried {
    /// Those of earlier attempts.
    fn of(earlier: &[Arc<Instance>]) -> Self {
        Self(earlier.iter().map(|instance| (Arc::clone(instance), false)).collect())
    }

    /// Adds one, and whether it could not be reached.
    fn add(&mut self, instance: Arc<Instance>, is_unreachable: bool) {
        self.0.push((instance, is_unreachable));
    }

    /// Their positions among those that are there now.
    fn positions(&self, nodes: &Index<Node>) -> Vec<usize> {
        self.0.iter().filter_map(|(instance, _)| nodes.position(&instance.id)).collect()
    }

    /// Whether it could not be reached: it is picked again only where nobody else is left.
    fn is_unreachable(&self, node: &Node) -> bool {
        self.0.iter().any(|(instance, is_unreachable)| *is_unreachable && instance.id == node.instance.id)
    }
}

/// An attempt without an answer.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) begun: Begun,
    /// On which instance; `None` if there was none.
    pub(crate) on: Option<Arc<Instance>>,
}

/// How far an attempt came that failed.
pub(crate) enum Begun {
    /// It was provably not begun: here it is again. Whether that was because the instance could not be reached.
    Unsent(Box<Request<Body>>, bool),
    /// The server says that it did not begin it; it was sent all the same.
    Refused,
    /// The server may have begun it.
    Maybe,
    /// There is nobody (else) to send it to.
    Nowhere,
}

impl Begun {
    /// Whether the server may have begun it.
    pub(crate) fn is_possible(&self) -> bool {
        matches!(self, Self::Maybe)
    }
}

/// A request that was sent until a server had it for certain.
pub(crate) struct Delivered {
    pub(crate) result: Result<Answer, Box<Failed>>,
    /// The request once more, if its body is in memory.
    pub(crate) copy: Option<Box<Request<Body>>>,
}

/// A response whose body is still to come.
pub(crate) struct Answer {
    /// Whose it is.
    pub(crate) on: Arc<Instance>,
    response: Response<Body>,
    /// What its head tells of a failure, once somebody has asked.
    told: OnceLock<Option<Error>>,
    place: Place,
    landing: Option<Landing>,
}

impl Nodes {
    /// Sends a request until a server has it for certain, or there is nowhere left to send it. To one of `earlier` only if
    /// there is nobody else.
    pub(crate) async fn deliver(
        &self,
        call: &Call<'_>,
        mut request: Box<Request<Body>>,
        earlier: &[Arc<Instance>],
    ) -> Delivered {
        let mut tried = Tried::of(earlier);
        let (mut last, mut refused) = (None, 0);
        loop {
            let copy = copy_of(&request);
            let mut failed = match self.attempt(call, request, &tried).await {
                Ok(answer) => return Delivered { result: Ok(answer), copy },
                Err(failed) => failed,
            };
            let (again, is_unreachable) = match std::mem::replace(&mut failed.begun, Begun::Refused) {
                Begun::Unsent(request, is_unreachable) => (request, is_unreachable),
                Begun::Refused => match copy {
                    // Where all refuse, sending it to each of a thousand would be a storm.
                    Some(copy) if refused + 1 < ATTEMPTS => {
                        refused += 1;
                        (copy, false)
                    }
                    copy => return Delivered { result: Err(failed), copy },
                },
                Begun::Maybe => {
                    failed.begun = Begun::Maybe;
                    return Delivered { result: Err(failed), copy };
                }
                // What is known of those that there are says more.
                Begun::Nowhere => return Delivered { result: Err(last.unwrap_or(failed)), copy },
            };
            if let Some(on) = &failed.on {
                tried.add(Arc::clone(on), is_unreachable);
            }
            (request, last) = (again, Some(failed));
        }
    }

    /// Sends a request once, to an instance that was not tried if there is one.
    async fn attempt(
        &self,
        call: &Call<'_>,
        mut request: Box<Request<Body>>,
        tried: &Tried,
    ) -> Result<Answer, Box<Failed>> {
        let nodes = match self.current() {
            Some(nodes) => nodes,
            None => Box::pin(self.get(call.cx)).await.map_err(Failed::nowhere)?,
        };
        let node = self.pick(&nodes, call, tried).map_err(Failed::nowhere)?;
        if let Some(picked) = call.picked {
            *picked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&node.instance));
        }
        let flight = Flight::begin(node, call.cx, call.fair, &self.shared);
        // Making a connection is rare and its future large: it must not be part of every call's.
        let place = match node.link.ready() {
            Some(place) => Ok(place),
            None => Box::pin(node.link.place()).await,
        };
        let mut place = match place {
            Ok(place) => place,
            Err(none) => return Err(Failed::placeless(node, none, flight, request)),
        };
        prepare(&mut request, call.told.unwrap_or(call.cx), node);
        match place.send(request).await {
            Ok(response) => {
                let on = Arc::clone(&node.instance);
                let landing = flight.answered(call.kind, || head_of(&response));
                Ok(Answer { on, response, told: OnceLock::new(), place, landing })
            }
            Err(failure) => Err(Failed::sent(node, failure, flight)),
        }
    }

    /// Whether the call's next attempt would go to an instance that was not tried: the same look that the pick takes, so that
    /// one that nobody would be sent to does not count.
    pub(crate) fn has_untried(&self, call: &Call<'_>, tried: &[Arc<Instance>]) -> bool {
        self.current().is_some_and(|nodes| {
            let positions = Tried::of(tried).positions(&nodes);
            nodes.has_untried(&call.route(), &Ask::new(Instant::now(), &SystemRng).without(&positions))
        })
    }

    fn pick<'n>(&self, nodes: &'n Index<Node>, call: &Call<'_>, tried: &Tried) -> Result<&'n Node> {
        let balance = &self.shared.options.balance;
        let positions = tried.positions(nodes);
        let mut ask = Ask::new(Instant::now(), &SystemRng).without(&positions);
        if let Some(key) = balance.picker.key(call.cx) {
            ask = ask.with_key(key);
        }
        let picked = nodes.pick(&balance.picker, &call.route(), &ask)?;
        let picked = picked.map(|position| &nodes[position]).filter(|node| !tried.is_unreachable(node));
        picked.filter(|_| tried.0.len() < ATTEMPTS.max(nodes.len() + 1)).ok_or_else(|| self.nobody())
    }
}

impl Failed {
    /// An attempt whose own time was over.
    pub(crate) fn in_vain(error: Error, on: Option<Arc<Instance>>) -> Box<Self> {
        Box::new(Self { error, begun: Begun::Maybe, on })
    }

    fn nowhere(error: Error) -> Box<Self> {
        Box::new(Self { error, begun: Begun::Nowhere, on: None })
    }

    fn placeless(node: &Node, none: NoPlace, flight: Flight<'_>, request: Box<Request<Body>>) -> Box<Self> {
        let (error, outcome) = match none {
            NoPlace::Full(error) => (error, Outcome::Canceled),
            // Who comes back in a second must not be ejected for half a minute because many waited for one connection.
            NoPlace::Unreachable { error, is_news: false } => (error, Outcome::Canceled),
            NoPlace::Unreachable { error, is_news: true } => (error, Outcome::Unreachable),
        };
        flight.end(outcome);
        Box::new(Self { error, begun: Begun::Unsent(request, true), on: Some(Arc::clone(&node.instance)) })
    }

    fn sent(node: &Node, failure: Failure, flight: Flight<'_>) -> Box<Self> {
        let on = Some(Arc::clone(&node.instance));
        let (error, begun, outcome) = match failure {
            Failure::Unsent(request, error) => (error, Begun::Unsent(request, false), Outcome::Canceled),
            Failure::Refused(error) => (error, Begun::Refused, Outcome::Canceled),
            Failure::Broken(error) => {
                let error = error.context(format!("calling {}", node.instance.id));
                (error, Begun::Maybe, Outcome::Unreachable)
            }
        };
        flight.end(outcome);
        Box::new(Self { error, begun, on })
    }
}

impl Answer {
    /// The status, if the head tells it: `None` is success, or not known yet.
    pub(crate) fn head(&self) -> Option<Code> {
        head_of(&self.response)
    }

    /// The failure that the head tells in gRPC's way, with its details. It is not cheap to read, and several ask.
    pub(crate) fn told(&self) -> Option<&Error> {
        self.told.get_or_init(|| grpc_failure(self.headers())).as_ref()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.response.headers_mut()
    }

    /// The response, with everything that waits for its end tied to the end of its body.
    pub(crate) fn watched(self, measuring: Measuring) -> Response<Body> {
        let head = self.head();
        let Self { response, place, landing, .. } = self;
        response.map(|body| {
            body.on_end(move |end| {
                let code = match &end {
                    End::Complete(trailers) => trailers.and_then(grpc_status).unwrap_or(head),
                    End::Failed(error) => Some(error.code()),
                    End::Dropped => Some(measuring.given_up()),
                };
                if let Some(landing) = landing {
                    landing.end(&end, code);
                }
                measuring.end(code);
                drop(place);
            })
        })
    }

    /// Gives up the answer: how it went is told by its head alone.
    pub(crate) fn dismissed(self) -> Option<Code> {
        let head = self.head();
        let Self { landing, .. } = self;
        if let Some(landing) = landing {
            landing.end(&End::Complete(None), head);
        }
        head
    }

    /// The failure that it is, once it is given up.
    pub(crate) fn into_error(self) -> Error {
        let unsaid = || {
            let (code, status) = (self.head().unwrap_or(Code::Unknown), self.response.status());
            Error::new(code, format!("{} answered with HTTP {status}", self.on.id))
        };
        let error = self.told().map_or_else(unsaid, Error::again);
        self.dismissed();
        error
    }
}

/// The status, if the head tells it: `None` is success, or not known yet.
fn head_of(response: &Response<Body>) -> Option<Code> {
    grpc_status(response.headers()).unwrap_or_else(|| Code::from_http(response.status()))
}

/// The request once more, if its body is in memory: for a server that refuses it after it was sent.
pub(crate) fn copy_of(request: &Request<Body>) -> Option<Box<Request<Body>>> {
    let body = request.body().as_full()?;
    let mut copy = Request::new(Body::full(body));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(Box::new(copy))
}
