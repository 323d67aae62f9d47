//! Requests to etcd, each bounded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_core::{Code, Context, Error, Operation, Result};
use bowline_rpc::{Body, BoxFuture, Caller, Transport};
use http::{HeaderName, HeaderValue, Request, Response};

use crate::api::etcdserverpb as pb;
use crate::api::mvccpb::KeyValue;
use crate::keys;
use crate::{Credentials, Options};

/// What a token is sent as.
const TOKEN: HeaderName = HeaderName::from_static("token");
/// Asks a member to refuse, and to end streams, while it sees no leader: it would be silent otherwise.
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
/// How many instances one answer lists: some hundred bytes each, so that it stays far below a message's limit.
const PAGE: i64 = 2_000;

pub(crate) struct Client {
    pub(crate) options: Options,
    kv: pb::kv::Client,
    pub(crate) watch: pb::watch::Client,
    lease: pb::lease::Client,
    auth: pb::auth::Client,
    token: Arc<Mutex<Option<HeaderValue>>>,
}

/// Adds what etcd reads of a request's headers.
struct Authorized {
    inner: Arc<dyn Transport>,
    token: Arc<Mutex<Option<HeaderValue>>>,
}

impl Transport for Authorized {
    fn send(
        &self,
        cx: Context,
        operation: Operation,
        mut request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>>> {
        let headers = request.headers_mut();
        headers.insert(HAS_LEADER, HeaderValue::from_static("true"));
        if let Some(token) = &*self.token.lock().unwrap_or_else(PoisonError::into_inner) {
            headers.insert(TOKEN, token.clone());
        }
        self.inner.send(cx, operation, request)
    }

    fn default_timeout(&self) -> Option<Duration> {
        self.inner.default_timeout()
    }
}

/// Where a key stands.
pub(crate) enum Held {
    Here,
    ByAnother,
}

/// All keys of a service at one revision.
pub(crate) struct Listed {
    pub(crate) entries: Vec<KeyValue>,
    pub(crate) revision: i64,
}

impl Client {
    pub(crate) fn new(transport: Arc<dyn Transport>, options: Options) -> Result<Self> {
        let token = Arc::<Mutex<Option<HeaderValue>>>::default();
        let caller = Caller::new(Authorized { inner: transport, token: Arc::clone(&token) }, "etcd")?;
        Ok(Self {
            options,
            kv: pb::kv::Client::new(caller.clone()),
            watch: pb::watch::Client::new(caller.clone()),
            lease: pb::lease::Client::new(caller.clone()),
            auth: pb::auth::Client::new(caller),
            token,
        })
    }

    /// One attempt, with a token if there are credentials. One that is not taken any more is forgotten.
    pub(crate) async fn attempt<T>(&self, what: impl AsyncFnOnce(Context) -> Result<T>) -> Result<T> {
        let cx = Context::background().with_timeout(self.options.attempt_timeout);
        let attempt = async {
            if let Some(credentials) = &self.options.credentials {
                self.authenticate(&cx, credentials).await?;
            }
            what(cx.clone()).await
        };
        self.judge(cx.run(attempt).await.flatten())
    }

    /// What an error means for later attempts.
    pub(crate) fn judge<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            if error.code() == Code::Unauthenticated && self.options.credentials.is_some() {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Error::unavailable("etcd does not take the token any more").with_source(error);
            }
            error
        })
    }

    async fn authenticate(&self, cx: &Context, credentials: &Credentials) -> Result<()> {
        if self.token.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let request = pb::AuthenticateRequest {
            name: credentials.user.clone(),
            password: credentials.password.clone(),
            ..Default::default()
        };
        let answer =
            self.auth.authenticate(cx, request).await.map_err(|e| e.context("logging in to etcd"))?;
        let token = HeaderValue::try_from(answer.token)
            .map_err(|e| Error::internal("etcd's token is no header value").with_source(e))?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    /// Makes sure that the lease is there.
    pub(crate) async fn grant(&self, lease: i64) -> Result<()> {
        let ttl = i64::try_from(self.options.ttl.as_secs()).unwrap_or(i64::MAX);
        let request = pb::LeaseGrantRequest { TTL: ttl, ID: lease, ..Default::default() };
        match self.attempt(async |cx| self.lease.lease_grant(&cx, request).await).await {
            // Nobody else has this number: it is ours of an earlier attempt.
            Err(error) if error.message().contains("lease already exists") => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// How long a lease lives yet; `None` if there is none.
    pub(crate) async fn remaining(&self, lease: i64) -> Result<Option<Duration>> {
        let request = pb::LeaseTimeToLiveRequest { ID: lease, ..Default::default() };
        let answer = self.attempt(async |cx| self.lease.lease_time_to_live(&cx, request).await).await?;
        Ok(u64::try_from(answer.TTL).ok().map(Duration::from_secs))
    }

    pub(crate) async fn keep_alive(
        &self,
        leases: bowline_rpc::Streaming<pb::LeaseKeepAliveRequest>,
    ) -> Result<bowline_rpc::Streaming<pb::LeaseKeepAliveResponse>> {
        // The stream outlives the attempt that opens it.
        let cx = Context::background();
        self.attempt(async |_| self.lease.lease_keep_alive(&cx, leases).await).await
    }

    /// Puts the value, whoever has the key.
    pub(crate) async fn put(&self, key: &[u8], value: &[u8], lease: i64) -> Result<()> {
        self.txn(vec![], vec![put(key, value, lease)], vec![]).await.map(|_| ())
    }

    /// Puts the value unless the key hangs on another lease.
    pub(crate) async fn put_if_free(&self, key: &[u8], value: &[u8], lease: i64) -> Result<Held> {
        for condition in [is_absent(key), hangs_on(key, lease)] {
            if self.txn(vec![condition], vec![put(key, value, lease)], vec![]).await?.succeeded {
                return Ok(Held::Here);
            }
        }
        Ok(Held::ByAnother)
    }

    /// Whether the key is there and hangs on this lease.
    pub(crate) async fn has(&self, key: &[u8], lease: i64) -> Result<bool> {
        Ok(self.txn(vec![hangs_on(key, lease)], vec![], vec![]).await?.succeeded)
    }

    /// Deletes the key if it hangs on this lease.
    pub(crate) async fn delete(&self, key: &[u8], lease: i64) -> Result<()> {
        use pb::__buffa::oneof::request_op::Request;
        let delete = pb::DeleteRangeRequest { key: key.to_vec(), ..Default::default() };
        let delete = pb::RequestOp {
            request: Some(Request::RequestDeleteRange(Box::new(delete))),
            ..Default::default()
        };
        self.txn(vec![hangs_on(key, lease)], vec![delete], vec![]).await.map(|_| ())
    }

    async fn txn(
        &self,
        compare: Vec<pb::Compare>,
        success: Vec<pb::RequestOp>,
        failure: Vec<pb::RequestOp>,
    ) -> Result<pb::TxnResponse> {
        let request = pb::TxnRequest { compare, success, failure, ..Default::default() };
        self.attempt(async |cx| self.kv.txn(&cx, request).await).await
    }

    /// Every key below a prefix, at one revision.
    pub(crate) async fn list(&self, prefix: &[u8]) -> Result<Listed> {
        let (mut start, end) = (prefix.to_vec(), keys::end(prefix));
        let mut listed = Listed { entries: Vec::new(), revision: 0 };
        loop {
            let request = pb::RangeRequest {
                key: start,
                range_end: end.clone(),
                limit: PAGE,
                revision: listed.revision,
                ..Default::default()
            };
            let page = self.attempt(async |cx| self.kv.range(&cx, request).await).await?;
            if listed.revision == 0 {
                listed.revision = page.header.revision;
            }
            listed.entries.extend(page.kvs);
            let Some(last) = listed.entries.last().filter(|_| page.more) else { return Ok(listed) };
            start = [&last.key[..], &[0]].concat();
        }
    }
}

fn put(key: &[u8], value: &[u8], lease: i64) -> pb::RequestOp {
    use pb::__buffa::oneof::request_op::Request;
    let put = pb::PutRequest { key: key.to_vec(), value: value.to_vec(), lease, ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(Box::new(put))), ..Default::default() }
}

fn is_absent(key: &[u8]) -> pb::Compare {
    use pb::__buffa::oneof::compare::TargetUnion;
    pb::Compare {
        target: pb::compare::CompareTarget::CREATE.into(),
        key: key.to_vec(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Default::default()
    }
}

fn hangs_on(key: &[u8], lease: i64) -> pb::Compare {
    use pb::__buffa::oneof::compare::TargetUnion;
    pb::Compare {
        target: pb::compare::CompareTarget::LEASE.into(),
        key: key.to_vec(),
        target_union: Some(TargetUnion::Lease(lease)),
        ..Default::default()
    }
}
