//! One connection to one server, for as long as it lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_client::{Channel, ChannelOptions};
use bowline_core::task::Tracker;
use bowline_core::{Code, Context, Endpoint, Error, Instant, Result, SystemRng};
use bowline_discovery::Backoff;
use bowline_rpc::{Sender, Streaming};
use tokio::sync::watch;

use crate::api::wire::{bi_request_stream, request};
use crate::api::{
    Body, ClientDetectionResponse, ConnectResetResponse, ConnectionSetupRequest, ErrorResponse,
    HealthCheckRequest, HealthCheckResponse, NotifySubscriberRequest, NotifySubscriberResponse, Outcome,
    Payload, ServerCheckRequest, ServerCheckResponse, ServiceInfo, SubscribeServiceRequest,
    SubscribeServiceResponse, code, kind, request_id, with_header,
};
use crate::login::Token;
use crate::names::split;
use crate::options::Options;

/// How many answers to the server wait to be sent; one that does not take them is gone.
const QUEUE: usize = 256;

/// What all connections of a process share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) servers: Vec<Endpoint>,
    token: Token,
}

impl Shared {
    pub(crate) fn new(servers: Vec<Endpoint>, options: Options) -> Self {
        Self { options, servers, token: Token::default() }
    }
}

/// A connection. Dropping it ends it, and what was registered over it.
pub(crate) struct Session {
    link: Arc<Link>,
    tasks: Tracker,
}

/// What its parts share.
struct Link {
    shared: Arc<Shared>,
    server: Endpoint,
    requests: request::Client,
    /// What is subscribed to, as it is now; `None` before the first answer.
    subscribed: Mutex<HashMap<String, watch::Sender<Known>>>,
    ended: watch::Sender<bool>,
}

/// A service as it is known; `None` before the first answer.
pub(crate) type Known = Option<Arc<ServiceInfo>>;

impl Session {
    /// Connects to a server and introduces itself.
    ///
    /// # Errors
    /// Why it did not work within the time for an attempt.
    pub(crate) async fn open(shared: &Arc<Shared>, server: &Endpoint) -> Result<Self> {
        let cx = Context::background().with_timeout(shared.options.attempt_timeout);
        cx.run(Self::connect(&cx, shared, server)).await.flatten()
    }

    async fn connect(cx: &Context, shared: &Arc<Shared>, server: &Endpoint) -> Result<Self> {
        let port = server.port().checked_add(shared.options.offset).ok_or_else(|| {
            let offset = shared.options.offset;
            Error::invalid_argument(format!("the port of {server} and {offset} is none; use a lower one"))
        })?;
        // One connection, for Nacos takes a connection for a client.
        let options = ChannelOptions { connections: 1, ..ChannelOptions::default() };
        let channel = Channel::builder(Endpoint::http(server.host(), port).to_string()).options(options);
        let caller = channel.build()?.caller()?;
        let link = Arc::new(Link {
            shared: Arc::clone(shared),
            server: server.clone(),
            requests: request::Client::new(caller.clone()),
            subscribed: Mutex::default(),
            ended: watch::Sender::new(false),
        });
        let _: ServerCheckResponse = link.ask(cx, &ServerCheckRequest::default()).await?;
        let (answers, stream) = Streaming::channel(QUEUE);
        let setup = ConnectionSetupRequest {
            client_version: concat!("Bowline:v", env!("CARGO_PKG_VERSION")).into(),
            tenant: shared.options.namespace.clone(),
            labels: [("source", "sdk"), ("module", "naming")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ability_table: Some(std::collections::BTreeMap::new()),
            ..Default::default()
        };
        answers.try_send(setup.payload()?)?;
        // The stream outlives the attempt that opens it.
        let forever = Context::background();
        let said = bi_request_stream::Client::new(caller).request_bi_stream(&forever, stream).await?;
        let session = Self { link, tasks: Tracker::new() };
        let link = Arc::clone(&session.link);
        session.tasks.spawn(async move {
            let error = link.follow(said, answers).await;
            tracing::debug!(server = %link.server, %error, "a connection to Nacos ended");
            link.ended.send_replace(true);
        });
        // Some servers tell that they took the setup, others do not; all refuse requests until they have.
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
        while let Err(error) =
            session.link.ask::<HealthCheckResponse>(cx, &HealthCheckRequest::default()).await
        {
            if session.has_ended() || cx.error().is_some() {
                return Err(error);
            }
            tokio::time::sleep(backoff.next(&SystemRng)).await;
        }
        Ok(session)
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.link.ended.borrow()
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        let mut ended = self.link.ended.subscribe();
        // The sender lives as long as `self`.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Asks for something, within the time for an attempt.
    ///
    /// # Errors
    /// Why it was not done. A connection that Nacos does not know any more is ended by that.
    pub(crate) async fn ask<R: Body>(&self, request: &impl Body) -> Result<R> {
        self.link.attempt(request).await
    }

    /// A service as it is now and from now on, for as long as the session lives.
    ///
    /// # Errors
    /// Why Nacos did not tell.
    pub(crate) async fn subscribe(&self, service: &str) -> Result<watch::Receiver<Known>> {
        let (mut receiver, is_first) = {
            let mut subscribed = self.link.subscribed();
            match subscribed.get(service) {
                Some(known) => (known.subscribe(), false),
                None => {
                    let (known, receiver) = watch::channel(None);
                    subscribed.insert(service.to_owned(), known);
                    (receiver, true)
                }
            }
        };
        if is_first {
            match self.link.subscription(service, true).await {
                Ok(info) => self.link.learn(service, info),
                Err(error) => {
                    self.link.subscribed().remove(service);
                    return Err(error);
                }
            }
        }
        let timeout = self.link.shared.options.attempt_timeout;
        let known = tokio::time::timeout(timeout, receiver.wait_for(Option::is_some)).await;
        if !known.is_ok_and(|known| known.is_ok()) {
            return Err(Error::unavailable(format!("Nacos has not told of `{service}`")));
        }
        receiver.mark_changed();
        Ok(receiver)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Link {
    fn subscribed(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Known>>> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt<R: Body>(&self, request: &impl Body) -> Result<R> {
        let cx = Context::background().with_timeout(self.shared.options.attempt_timeout);
        cx.run(self.ask(&cx, request)).await.flatten()
    }

    async fn ask<R: Body>(&self, cx: &Context, request: &impl Body) -> Result<R> {
        let mut payload = request.payload()?;
        if let Some(credentials) = &self.shared.options.credentials {
            let token = self.shared.token.get(cx, &self.server, credentials).await?;
            payload = with_header(payload, "accessToken", &token);
        }
        let answer = self.requests.request(cx, payload).await?;
        let refused = ErrorResponse::of(&answer).ok().map(|error| error.outcome);
        let refused = refused.or_else(|| serde_json::from_slice(&answer.body.value).ok());
        match refused.filter(|outcome: &Outcome| !outcome.is_success()) {
            Some(outcome) => Err(self.refused(&outcome)),
            None => R::of(&answer),
        }
    }

    fn refused(&self, outcome: &Outcome) -> Error {
        let number = if outcome.error_code == 0 { outcome.result_code } else { outcome.error_code };
        let code = match number {
            code::INVALID_PARAM => Code::InvalidArgument,
            code::NO_RIGHT => {
                // The token may be too old; whoever tries again logs in.
                self.shared.token.forget();
                if self.shared.options.credentials.is_some() {
                    Code::Unavailable
                } else {
                    Code::PermissionDenied
                }
            }
            _ => Code::Unavailable,
        };
        if number == code::UN_REGISTER {
            self.ended.send_replace(true);
        }
        Error::new(code, format!("Nacos refused it with {number}: {}", outcome.message))
    }

    async fn subscription(&self, service: &str, subscribe: bool) -> Result<ServiceInfo> {
        let options = &self.shared.options;
        let request = SubscribeServiceRequest {
            namespace: options.namespace.clone(),
            group_name: options.group.clone(),
            service_name: service.to_owned(),
            subscribe,
            ..Default::default()
        };
        Ok(self.attempt::<SubscribeServiceResponse>(&request).await?.service_info)
    }

    /// Takes what the server told of a service, unless something newer is known.
    fn learn(&self, service: &str, info: ServiceInfo) {
        if let Some(known) = self.subscribed().get(service) {
            known.send_if_modified(|known| {
                let is_older = known.as_ref().is_some_and(|known| info.last_ref_time < known.last_ref_time);
                if !is_older {
                    *known = Some(Arc::new(info));
                }
                !is_older
            });
        }
    }

    /// Listens to the server, and asks it for signs of life, until either fails. Returns why.
    async fn follow(&self, mut said: Streaming<Payload>, answers: Sender<Payload>) -> Error {
        let every = self.shared.options.watch_idle / 3;
        let mut check_at = Instant::now() + every;
        loop {
            let result = tokio::select! {
                payload = said.message() => match payload {
                    Ok(Some(payload)) => self.said(&payload, &answers),
                    Ok(None) => Err(Error::unavailable("Nacos ended the stream")),
                    Err(error) => Err(error),
                },
                () = tokio::time::sleep_until(check_at) => {
                    let result = self.check().await;
                    check_at = Instant::now() + every;
                    result
                }
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Whether the server is there and knows the connection. What nobody follows any more is unsubscribed from.
    async fn check(&self) -> Result<()> {
        let _: HealthCheckResponse = self.attempt(&HealthCheckRequest::default()).await?;
        let left: Vec<String> = {
            let mut subscribed = self.subscribed();
            let left: Vec<_> = subscribed
                .iter()
                .filter(|(_, k)| k.receiver_count() == 0)
                .map(|(name, _)| name.clone())
                .collect();
            subscribed.retain(|_, known| known.receiver_count() > 0);
            left
        };
        for service in left {
            self.subscription(&service, false).await?;
        }
        Ok(())
    }

    /// Takes what the server says of its own accord, and answers.
    fn said(&self, payload: &Payload, answers: &Sender<Payload>) -> Result<()> {
        let outcome = Outcome::success(request_id(payload));
        match kind(payload) {
            "NotifySubscriberRequest" => {
                let push = NotifySubscriberRequest::of(payload)?;
                // Some servers name the service in the content alone, some with the group in front.
                let info = push.service_info;
                let (_, service) = split(&info.name);
                let service = service.to_owned();
                self.learn(&service, info);
                answers.try_send(NotifySubscriberResponse { outcome }.payload()?)
            }
            "ClientDetectionRequest" => answers.try_send(ClientDetectionResponse { outcome }.payload()?),
            "ConnectResetRequest" => {
                // That it cannot be told matters as little as that it goes.
                let _ = answers.try_send(ConnectResetResponse { outcome }.payload()?);
                Err(Error::unavailable("Nacos asked to connect anew"))
            }
            _ => Ok(()),
        }
    }
}
