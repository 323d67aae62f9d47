//! The standard health service.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_core::{Context, Error, Result};
use tokio::sync::watch;

use crate::proto::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, health, health_check_response,
};
use crate::{ServiceDef, Streaming};

/// Whether a service takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServingStatus {
    /// It does.
    Serving,
    /// It does not: starting, draining or broken.
    NotServing,
}

#[derive(Debug)]
struct Statuses {
    all: BTreeMap<String, ServingStatus>,
    /// The server stops: watches end.
    closed: bool,
}

/// `grpc.health.v1.Health`, per service and for the whole server (the empty name).
///
/// Every service starts as not serving. A clone is the same health.
#[derive(Clone, Debug)]
pub struct Health {
    statuses: Arc<watch::Sender<Statuses>>,
}

impl Health {
    /// Health of these services, none of them serving.
    pub fn new<'a>(services: impl IntoIterator<Item = &'a str>) -> Self {
        let names = std::iter::once("").chain(services);
        let all = names.map(|name| (name.to_owned(), ServingStatus::NotServing)).collect();
        Self { statuses: Arc::new(watch::Sender::new(Statuses { all, closed: false })) }
    }

    /// Sets one service; the empty name is the whole server.
    pub fn set(&self, service: &str, status: ServingStatus) {
        self.statuses.send_if_modified(|s| s.all.insert(service.to_owned(), status) != Some(status));
    }

    /// Sets the server and every service.
    pub fn set_all(&self, status: ServingStatus) {
        self.statuses.send_if_modified(|statuses| {
            let mut changed = false;
            for own in statuses.all.values_mut() {
                changed |= *own != status;
                *own = status;
            }
            changed
        });
    }

    /// Ends every watch, after its last status: a watch has no end of its own, and a server that stops waits for its calls.
    pub fn close(&self) {
        self.statuses.send_if_modified(|statuses| !std::mem::replace(&mut statuses.closed, true));
    }

    /// One service's status; `None` if there is no such service.
    pub fn get(&self, service: &str) -> Option<ServingStatus> {
        self.statuses.borrow().all.get(service).copied()
    }

    /// The service to mount.
    pub fn service(&self) -> ServiceDef {
        health::server(self.clone())
    }
}

fn response(status: Option<ServingStatus>) -> HealthCheckResponse {
    use health_check_response::ServingStatus as Wire;
    let status = match status {
        Some(ServingStatus::Serving) => Wire::SERVING,
        Some(ServingStatus::NotServing) => Wire::NOT_SERVING,
        None => Wire::SERVICE_UNKNOWN,
    };
    HealthCheckResponse { status: status.into(), ..Default::default() }
}

impl health::Service for Health {
    async fn check(&self, _cx: &Context, req: HealthCheckRequest) -> Result<HealthCheckResponse> {
        match self.get(&req.service) {
            Some(status) => Ok(response(Some(status))),
            None => Err(Error::not_found(format!("there is no service `{}` here", req.service))),
        }
    }

    async fn watch(&self, _cx: &Context, req: HealthCheckRequest) -> Result<Streaming<HealthCheckResponse>> {
        let state = (self.statuses.subscribe(), req.service, None);
        Ok(Streaming::new(futures_util::stream::unfold(
            state,
            |(mut statuses, service, mut last)| async move {
                loop {
                    let (now, closed) = {
                        let statuses = statuses.borrow_and_update();
                        (statuses.all.get(&service).copied(), statuses.closed)
                    };
                    if last != Some(now) {
                        last = Some(now);
                        return Some((Ok(response(now)), (statuses, service, last)));
                    }
                    if closed {
                        let stopping = Error::unavailable("the server is stopping; watch another one");
                        return Some((Err(stopping), (statuses, service, last)));
                    }
                    // The sender lives as long as the server that polls this.
                    statuses.changed().await.ok()?;
                }
            },
        )))
    }
}
