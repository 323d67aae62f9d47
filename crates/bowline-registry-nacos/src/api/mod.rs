//! The messages. Facts are those of the `api` module of github.com/alibaba/nacos, 2.5 and 3.0.
//!
//! A [`wire::Payload`] carries one body as JSON; its type's name tells which. What a body lacks has its default, what is not
//! known is passed over, and `null` is the same as nothing: so that clients of every version are understood.

mod naming;
mod payload;
mod remote;

/// What goes over gRPC, generated from `protos/nacos/naming.proto`.
pub mod wire {
    #![allow(missing_docs, unreachable_pub, reason = "generated, and nobody's API but Nacos'")]
    bowline_rpc::include_api!();
}

pub use naming::{
    BATCH_REGISTER, BatchInstanceRequest, BatchInstanceResponse, DEREGISTER, Instance, InstanceRequest,
    InstanceResponse, NotifySubscriberRequest, NotifySubscriberResponse, PersistentInstanceRequest,
    QueryServiceResponse, REGISTER, ServiceInfo, ServiceListRequest, ServiceListResponse,
    ServiceQueryRequest, SubscribeServiceRequest, SubscribeServiceResponse,
};
pub use payload::{Body, Payload, headers, kind, request_id, with_header};
pub use remote::{
    ClientDetectionRequest, ClientDetectionResponse, ConnectResetRequest, ConnectResetResponse,
    ConnectionSetupRequest, ErrorResponse, HealthCheckRequest, HealthCheckResponse, Outcome,
    ServerCheckRequest, ServerCheckResponse, SetupAckRequest, SetupAckResponse, code,
};
