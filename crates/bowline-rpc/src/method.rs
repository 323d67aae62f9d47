//! What generated code says about a method.

use bowline_core::{Idempotency, MethodKind, Operation};

/// A method of a proto service. Generated code holds one in a static for each.
#[derive(Debug)]
pub struct MethodDef {
    /// The full name of the service.
    pub service: &'static str,
    /// The method's name.
    pub name: &'static str,
    /// `/service/method`.
    pub path: &'static str,
    /// Which sides stream.
    pub kind: MethodKind,
    /// From the option `idempotency_level`.
    pub idempotency: Idempotency,
    /// The full name of the request message.
    pub input: &'static str,
    /// The full name of the response message.
    pub output: &'static str,
    /// From the option `google.api.http`, additional bindings included.
    pub http: &'static [HttpRule],
}

impl MethodDef {
    /// The operation this method is.
    pub const fn operation(&self) -> Operation {
        Operation::from_static(self.service, self.name, self.path, self.kind, self.idempotency)
    }
}

/// One REST binding of a method.
#[derive(Debug)]
pub struct HttpRule {
    /// `GET`, `POST`, …; or what `custom` named, `*` for any.
    pub verb: &'static str,
    /// The path template.
    pub pattern: &'static str,
    /// Which field the body fills: empty for none, `*` for all that the path does not.
    pub body: &'static str,
    /// Which field of the response is the body: empty for the whole.
    pub response_body: &'static str,
}
