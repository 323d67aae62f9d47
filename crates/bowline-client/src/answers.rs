//! Answers as a whole: one for several callers, the last good one, and what stands in for one.
//!
//! Only for unary calls whose request is in memory, and for those that a policy names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::{Code, Context, Error, Instant, Operation, Result};
use bowline_rpc::headers::{DEGRADED, GRPC_TIMEOUT, REQUEST_ID, grpc_failure, grpc_status};
use bowline_rpc::{Body, BoxFuture};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

/// The most bytes of an answer that is kept or shared: as many as a message may have.
const LARGEST: usize = bowline_rpc::DEFAULT_BODY_LIMIT;

/// The most bytes of last good answers of a channel: 16 MiB. The one that was not asked for the longest goes first.
const KEPT_BYTES: usize = 16 * 1024 * 1024;

/// The most last good answers of a channel.
const KEPT: usize = 1_024;

/// An answer, complete.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Whole {
    /// Reads all of a response.
    ///
    /// # Errors
    /// What broke it; `RESOURCE_EXHAUSTED` if it is too large.
    pub(crate) async fn read(response: Response<Body>) -> Result<Self> {
        let (parts, body) = response.into_parts();
        let limited = http_body_util::Limited::new(body, LARGEST);
        let collected = limited.collect().await.map_err(|error| match error.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(_) => Error::resource_exhausted(format!(
                "the answer is larger than the {LARGEST} bytes that can be shared"
            )),
        })?;
        let trailers = collected.trailers().cloned();
        Ok(Self { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers })
    }

    /// How the call ended; `None` if it went well.
    pub(crate) fn code(&self) -> Option<Code> {
        let status = self.trailers.as_ref().and_then(grpc_status).or_else(|| grpc_status(&self.headers));
        status.unwrap_or_else(|| Code::from_http(self.status))
    }

    /// The failure that it tells of.
    pub(crate) fn failure(&self) -> Option<Error> {
        let code = self.code()?;
        let told = self.trailers.as_ref().and_then(grpc_failure).or_else(|| grpc_failure(&self.headers));
        Some(
            told.unwrap_or_else(|| {
                Error::new(code, format!("the server answered with HTTP {}", self.status))
            }),
        )
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let trailers = self.trailers.clone();
        let body = match trailers {
            None => Body::full(self.body.clone()),
            Some(trailers) => {
                Body::new(Full::new(self.body.clone()).with_trailers(std::future::ready(Some(Ok(trailers)))))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }

    fn bytes(&self) -> usize {
        let of =
            |headers: &HeaderMap| headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let (head, trailers): (usize, usize) = (of(&self.headers), self.trailers.as_ref().map_or(0, of));
        self.body.len() + head + trailers
    }
}

/// Says on an answer that it is not what was asked for, and why.
pub(crate) fn degraded(mut response: Response<Body>, how: &'static str) -> Response<Body> {
    response.headers_mut().insert(DEGRADED, HeaderValue::from_static(how));
    response
}

type Key = Box<[u8]>;
type Outcome = std::result::Result<Arc<Whole>, Arc<Error>>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// Makes an answer in the place of one that is not there; `None` if it has none either.
pub(crate) type Fallback = Arc<dyn Fn(&Context, &Error) -> Option<Response<Body>> + Send + Sync>;

/// The whole answers of a channel.
#[derive(Default)]
pub(crate) struct Answers {
    flights: Mutex<Flights>,
    kept: Mutex<Kept>,
    pub(crate) fallbacks: HashMap<String, Fallback>,
}

/// Calls that several may wait for.
#[derive(Default)]
struct Flights {
    by_key: HashMap<Key, WeakShared<BoxFuture<'static, Outcome>>>,
    /// Among how many those that have ended are looked for.
    sweep_at: usize,
}

impl Flights {
    /// Adds one. Of those that have ended no more are kept than there are others, so that to add costs the same with many.
    fn add(&mut self, key: &Key, flight: &Flight) {
        const FEW: usize = 16;
        if self.by_key.len() >= self.sweep_at.max(FEW) {
            self.by_key.retain(|_, flight| flight.upgrade().is_some());
            self.sweep_at = 2 * self.by_key.len();
        }
        if let Some(weak) = flight.downgrade() {
            self.by_key.insert(key.clone(), weak);
        }
    }
}

struct LastGood {
    whole: Arc<Whole>,
    answered: Instant,
    asked: Instant,
}

#[derive(Default)]
struct Kept {
    answers: HashMap<Key, LastGood>,
    bytes: usize,
}

/// What a call must have in common with another one to get its answer: everything it says but what is of itself.
pub(crate) fn key(operation: &Operation, strict: bool, request: &Request<Body>) -> Option<Key> {
    const OF_ITSELF: [HeaderName; 4] = [
        REQUEST_ID,
        GRPC_TIMEOUT,
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
    ];
    let body = request.body().as_full()?;
    let mut key = Vec::with_capacity(256 + body.len());
    let mut add = |part: &[u8]| {
        key.extend_from_slice(&(part.len() as u32).to_le_bytes());
        key.extend_from_slice(part);
    };
    add(operation.path().as_bytes());
    add(&[u8::from(strict)]);
    add(request.method().as_str().as_bytes());
    add(request.uri().path_and_query().map_or("", |path| path.as_str()).as_bytes());
    let mut headers: Vec<_> =
        request.headers().iter().filter(|(name, _)| !OF_ITSELF.contains(name)).collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        add(name.as_str().as_bytes());
        add(value.as_bytes());
    }
    add(&body);
    Some(key.into())
}

impl Answers {
    /// None yet; with what stands in for some.
    pub(crate) fn new(fallbacks: HashMap<String, Fallback>) -> Self {
        Self { fallbacks, ..Self::default() }
    }

    /// The answer that `call` gives, or that another caller of the same is waiting for already. When nobody waits any more,
    /// the call is dropped.
    pub(crate) async fn one_for_all(
        &self,
        key: &Key,
        call: impl FnOnce() -> BoxFuture<'static, Result<Whole>>,
    ) -> Result<Arc<Whole>> {
        let flight = self.join(key, call);
        flight.await.map_err(|error| error.again())
    }

    fn join(&self, key: &Key, call: impl FnOnce() -> BoxFuture<'static, Result<Whole>>) -> Flight {
        let mut flights = lock(&self.flights);
        let under_way = flights.by_key.get(key).and_then(WeakShared::upgrade);
        // One that has ended is of before; its caller just has not looked yet.
        if let Some(flight) = under_way.filter(|flight| flight.peek().is_none()) {
            return flight;
        }
        let flight = call().map(|answer| answer.map(Arc::new).map_err(Arc::new)).boxed().shared();
        flights.add(key, &flight);
        flight
    }

    /// Keeps an answer if it is good; or gives the last good one, if it is no older than `age`, in the place of a failure that
    /// may be over soon.
    pub(crate) fn keep_or_replace(
        &self,
        key: &Key,
        answer: &Result<Arc<Whole>>,
        age: Duration,
    ) -> Option<Arc<Whole>> {
        match answer {
            Ok(whole) if whole.code().is_none() => {
                // What stood in for something is no good answer.
                if !whole.headers.contains_key(DEGRADED) {
                    self.keep(key, whole);
                }
                None
            }
            Ok(whole) if !whole.failure().is_some_and(|error| may_be_over_soon(&error)) => None,
            Err(error) if !may_be_over_soon(error) => None,
            Ok(_) | Err(_) => {
                let mut kept = lock(&self.kept);
                let now = Instant::now();
                let last = kept.answers.get_mut(key)?;
                if now.saturating_duration_since(last.answered) > age {
                    kept.take(key);
                    return None;
                }
                last.asked = now;
                Some(Arc::clone(&last.whole))
            }
        }
    }

    fn keep(&self, key: &Key, whole: &Arc<Whole>) {
        let size = key.len() + whole.bytes();
        if size > KEPT_BYTES {
            return;
        }
        let mut kept = lock(&self.kept);
        kept.take(key);
        while kept.answers.len() >= KEPT || kept.bytes + size > KEPT_BYTES {
            let oldest = kept.answers.iter().min_by_key(|(_, last)| last.asked).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            kept.take(&oldest);
        }
        kept.bytes += size;
        let now = Instant::now();
        kept.answers.insert(key.clone(), LastGood { whole: Arc::clone(whole), answered: now, asked: now });
    }
}

impl Kept {
    fn take(&mut self, key: &Key) {
        if let Some(last) = self.answers.remove(key) {
            self.bytes -= key.len() + last.whole.bytes();
        }
    }
}

fn may_be_over_soon(error: &Error) -> bool {
    error.is_temporary() || error.is_timeout()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(600);

    fn whole(bytes: usize) -> Arc<Whole> {
        let body = vec![0; bytes].into();
        Arc::new(Whole { status: StatusCode::OK, headers: HeaderMap::new(), body, trailers: None })
    }

    fn key_of(name: usize) -> Key {
        name.to_le_bytes().to_vec().into()
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_longest_unasked_goes_first() {
        let answers = Answers::default();
        let down = || Err(Error::unavailable("down"));
        let mebibyte = 1024 * 1024 - 8;
        for name in 0..16 {
            answers.keep_or_replace(&key_of(name), &Ok(whole(mebibyte)), AGE);
        }
        assert!(answers.keep_or_replace(&key_of(0), &down(), AGE).is_some());
        answers.keep_or_replace(&key_of(16), &Ok(whole(mebibyte)), AGE);
        assert!(answers.keep_or_replace(&key_of(0), &down(), AGE).is_some(), "it was asked for lately");
        assert!(answers.keep_or_replace(&key_of(1), &down(), AGE).is_none());
        for name in 100..3_000 {
            answers.keep_or_replace(&key_of(name), &Ok(whole(10)), AGE);
        }
        let kept = lock(&answers.kept);
        assert_eq!(kept.answers.len(), KEPT);
        let sum: usize = kept.answers.iter().map(|(key, last)| key.len() + last.whole.bytes()).sum();
        assert_eq!(kept.bytes, sum);
    }

    #[tokio::test]
    async fn flights_that_have_ended_are_forgotten_and_those_under_way_are_not() {
        let answers = Answers::default();
        let pending: Vec<Flight> =
            (0..100).map(|name| answers.join(&key_of(name), || Box::pin(std::future::pending()))).collect();
        for name in 100..10_000 {
            let key = key_of(name);
            let answer = answers.one_for_all(&key, || Box::pin(async { Err(Error::not_found("gone")) }));
            assert!(answer.await.is_err());
        }
        assert!(lock(&answers.flights).by_key.len() <= 201);
        let joined = answers.join(&key_of(99), || panic!("it is under way"));
        assert!(joined.ptr_eq(&pending[99]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_is_no_answer_any_more() {
        let answers = Answers::default();
        let down = || Err(Error::unavailable("down"));
        answers.keep_or_replace(&key_of(1), &Ok(whole(10)), AGE);
        tokio::time::advance(AGE).await;
        assert!(
            answers.keep_or_replace(&key_of(1), &down(), AGE).is_some(),
            "to be asked for makes nothing young"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(answers.keep_or_replace(&key_of(1), &down(), AGE).is_none());
        assert_eq!(lock(&answers.kept).bytes, 0);
    }

    #[test]
    fn a_final_failure_is_not_replaced() {
        let answers = Answers::default();
        answers.keep_or_replace(&key_of(1), &Ok(whole(10)), AGE);
        assert!(answers.keep_or_replace(&key_of(1), &Err(Error::not_found("gone")), AGE).is_none());
        assert!(answers.keep_or_replace(&key_of(1), &Err(Error::unavailable("down")), AGE).is_some());
    }

    #[test]
    fn requests_differ_by_all_they_say_but_their_ids() {
        let operation = Operation::new("a.B", "C", bowline_core::MethodKind::Unary);
        let key = |headers: &[(&'static str, &'static str)], body: &'static str| {
            let mut request = Request::new(Body::full(body));
            for (name, value) in headers {
                request.headers_mut().insert(*name, HeaderValue::from_static(value));
            }
            super::key(&operation, false, &request).unwrap()
        };
        let plain = key(&[("authorization", "a"), ("x-request-id", "1")], "x");
        assert_eq!(plain, key(&[("x-request-id", "2"), ("authorization", "a"), ("grpc-timeout", "1S")], "x"));
        assert_ne!(plain, key(&[("authorization", "b")], "x"));
        assert_ne!(plain, key(&[("authorization", "a"), ("x-md-global-tenant", "red")], "x"));
        assert_ne!(plain, key(&[("authorization", "a")], "y"));
    }
}
