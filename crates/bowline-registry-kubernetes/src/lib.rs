//! Kubernetes as a registry.
//!
//! [`KubernetesRegistry`] finds the instances of a service in its EndpointSlices (`discovery.k8s.io/v1`), by the label
//! `kubernetes.io/service-name`, and follows their changes. All slices of a service are one list.
//!
//! # Who registers
//!
//! A process in a pod that a Service selects is registered by Kubernetes, and its readiness probe decides: registering does
//! nothing then ([`Register::Pod`]). A process outside of pods registers itself ([`Register::Slice`]), with an EndpointSlice of
//! its own and a lease (`coordination.k8s.io/v1`) that it renews; Bowline's readers leave out whose lease is over. Others, such as
//! kube-proxy, do not know of leases, and see a slice until it is deleted.
//!
//! # What a pod is
//!
//! | Kubernetes | instance |
//! |---|---|
//! | the pod's name, else `hostname`, else the address | id |
//! | each slice's address and chosen ports | endpoints, gRPC's before HTTP's |
//! | `ready` | up; also while it is terminating, for Services that publish addresses that are not ready |
//! | not `ready`, `terminating` | starting, out of service: neither takes new calls |
//! | `zone`, `nodeName` | zone, metadata `kubernetes.node` |
//! | the Service's labels `bowline/env`, `bowline/cluster`, `bowline/tenant`, `bowline/weight`, `bowline/version` | the fields of these names |
//! | its label `app.kubernetes.io/version` | version, without `bowline/version` |
//! | its other labels, but for those of Kubernetes | metadata |
//!
//! Ports are chosen by name ([`Options::ports`]); else those are taken whose `appProtocol`, or name up to the first `-`, is `grpc`,
//! `http2`, `h2c`, `kubernetes.io/h2c`, `grpcs`, `http` or `https`; else the only one there is.
//!
//! # When Kubernetes fails
//!
//! | what happens | what the watchers see | what becomes of registrations |
//! |---|---|---|
//! | the API server cannot be reached, or hangs | the last list, stale since then | attempts go on for ever |
//! | it is back | the list, live again; leases begin anew | renewed, or made again |
//! | it is back without its data: the namespace is another one | the last list, stale, for a grace; who comes back meanwhile is live | made again |
//! | it has forgotten the changes since (410) | a new list | |
//! | a lease is not renewed | it is gone | |
//! | the last slice or endpoint is removed | no instance: somebody removed it | |
//! | the last lease runs out | the last list, stale: it died, or could not renew as others may not either | |
//!
//! Facts are those of Kubernetes' API reference for EndpointSlices, Leases, watches and server-side apply, and of its own API server,
//! against which `tests/registries` holds this.

mod access;
mod api;
mod client;
mod form;
mod kubeconfig;
mod leases;
mod options;
mod pod;
mod pods;
mod registry;
mod source;
mod stream;
mod time;
mod token;
mod view;

pub use access::Access;
pub use options::{Options, Register};
pub use registry::KubernetesRegistry;
