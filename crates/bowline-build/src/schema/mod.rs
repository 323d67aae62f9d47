//! What the descriptors say, in the shape generation works on.

mod locations;
mod read;
mod types;

pub(crate) use locations::Locations;
pub(crate) use read::{read, read_types};
pub(crate) use types::{FieldRef, Types};

use crate::error::Place;
use crate::options::{Binding, ErrorSpec};

/// A service of a listed file.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) place: Place,
    pub(crate) docs: String,
    pub(crate) package: String,
    pub(crate) name: String,
    /// `package.name`.
    pub(crate) full_name: String,
    /// The Rust module it becomes.
    pub(crate) module: String,
    pub(crate) methods: Vec<Method>,
}

/// One method of a service.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) place: Place,
    pub(crate) docs: String,
    pub(crate) name: String,
    /// The Rust method it becomes, keywords not yet escaped.
    pub(crate) rust_name: String,
    /// `.package.Message`.
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) client_streaming: bool,
    pub(crate) server_streaming: bool,
    pub(crate) idempotency: Idempotency,
    pub(crate) deprecated: bool,
    pub(crate) http: Vec<Binding>,
}

/// `google.protobuf.MethodOptions.IdempotencyLevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idempotency {
    Unknown,
    NoSideEffects,
    Idempotent,
}

/// An enum that names reasons for errors.
#[derive(Debug)]
pub(crate) struct ErrorEnum {
    pub(crate) place: Place,
    pub(crate) docs: String,
    pub(crate) package: String,
    pub(crate) name: String,
    /// The Rust module it becomes.
    pub(crate) module: String,
    pub(crate) default_code: Option<i32>,
    pub(crate) reasons: Vec<Reason>,
}

/// One value of an error enum.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) place: Place,
    pub(crate) docs: String,
    /// The value's name as written: the reason on the wire.
    pub(crate) name: String,
    /// The Rust function it becomes, keywords not yet escaped.
    pub(crate) rust_name: String,
    pub(crate) spec: Option<ErrorSpec>,
}

/// A message or an enum, as far as its name matters.
#[derive(Debug)]
pub(crate) struct TypeDecl {
    pub(crate) place: Place,
    /// `message` or `enum`.
    pub(crate) kind: &'static str,
    /// The package, or the full name of the message it is nested in.
    pub(crate) scope: String,
    pub(crate) name: String,
}

/// What the files declare.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// Every message and enum of every file that is generated.
    pub(crate) types: Vec<TypeDecl>,
    /// Services of the listed files.
    pub(crate) services: Vec<Service>,
    /// Error enums of the listed files.
    pub(crate) errors: Vec<ErrorEnum>,
}
