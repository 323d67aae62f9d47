//! Writes the Rust code: messages, services, error enums, and the index that holds them together.

mod docs;
mod errors;
mod index;
mod messages;
mod needed;
mod runtime;
mod service;

pub(crate) use index::{Output, assemble};
pub(crate) use messages::{Messages, Resolver, config, generate};
pub(crate) use needed::needed;
pub(crate) use runtime::Runtime;
