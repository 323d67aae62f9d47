//! One look at an instance.

use bowline_client::{Channel, ChannelOptions, HttpVersion};
use bowline_core::{Context, Endpoint, Error, MethodKind, Operation, Result, WrapErr};
use bowline_rpc::Plain;
use bowline_rpc::proto::grpc::health::v1::health::Client as Health;
use bowline_rpc::proto::grpc::health::v1::{HealthCheckRequest, health_check_response::ServingStatus};
use bytes::Bytes;
use http::Request;
use http::uri::PathAndQuery;
use tokio::net::TcpStream;

use crate::store::{Check, Probe};

/// The most bytes of an answer that are read.
const MOST: usize = 64 * 1024;

/// Looks once. Each time over a connection of its own, so that it is seen whether there can be one.
///
/// # Errors
/// Why the instance is not well.
pub(super) async fn probe(check: &Check) -> Result<()> {
    let cx = Context::background().with_timeout(check.timeout);
    let looked = async {
        match &check.probe {
            Probe::Tcp => tcp(&check.endpoint).await,
            Probe::Http(path) => http(&cx, check, path).await,
            Probe::Grpc(service) => grpc(&cx, check, service).await,
        }
    };
    cx.run(looked).await.flatten()
}

async fn tcp(endpoint: &Endpoint) -> Result<()> {
    TcpStream::connect(endpoint.authority()).await.context("connecting")?;
    Ok(())
}

fn channel(check: &Check, http: HttpVersion) -> Result<Channel> {
    let options = ChannelOptions {
        connect_timeout: check.timeout,
        default_timeout: check.timeout,
        connections: 1,
        http1_connections: 1,
        http,
        ..ChannelOptions::default()
    };
    Channel::builder(check.endpoint.to_string()).options(options).build()
}

async fn http(cx: &Context, check: &Check, path: &PathAndQuery) -> Result<()> {
    let plain = Plain::new(channel(check, HttpVersion::Http1)?, &check.endpoint.authority(), MOST)?;
    let request = Request::get(path.as_str()).body(Bytes::new());
    let request = request.map_err(|e| Error::internal("a probe that is no request").with_source(e))?;
    let operation = Operation::new("registry", "probe", MethodKind::Unary);
    let status = plain.send(cx, operation, request).await?.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(Error::unavailable(format!("it answered {status}"))),
    }
}

async fn grpc(cx: &Context, check: &Check, service: &str) -> Result<()> {
    let health = Health::new(channel(check, HttpVersion::Http2)?.caller()?);
    let request = HealthCheckRequest { service: service.to_owned(), ..Default::default() };
    let status = health.check(cx, request).await?.status;
    match status == ServingStatus::SERVING {
        true => Ok(()),
        false => Err(Error::unavailable(format!("it answered {:?}", status.as_known()))),
    }
}
