//! What generated code names. Not for others: it changes with the generator.

pub use bowline_core::{Code, Context, Error, Idempotency, MethodKind, Result};
pub use {buffa, buffa_types, serde, serde_json};

pub use crate::{Caller, HttpRule, MethodDef, ServiceDef, Streaming};
