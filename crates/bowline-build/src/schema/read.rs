//! Reads services and error enums out of file descriptors.

use buffa_codegen::generated::descriptor::method_options::IdempotencyLevel;
use buffa_codegen::generated::descriptor::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, MethodDescriptorProto,
};

use super::locations::path;
use super::{ErrorEnum, Idempotency, Locations, Method, Reason, Schema, Service, TypeDecl};
use crate::names;
use crate::options;

/// Adds the messages and enums of one file.
pub(crate) fn read_types(file: &FileDescriptorProto, locations: &Locations, schema: &mut Schema) {
    let package = file.package.as_deref().unwrap_or_default();
    let types = &mut schema.types;
    for (index, decl) in (0..).zip(&file.enum_type) {
        types.push(type_decl("enum", package, decl.name.as_deref(), locations, &[path::ENUM, index]));
    }
    for (index, message) in (0..).zip(&file.message_type) {
        read_message(message, package, locations, &[path::MESSAGE, index], types);
    }
}

fn read_message(
    message: &DescriptorProto,
    scope: &str,
    locations: &Locations,
    at: &[i32],
    types: &mut Vec<TypeDecl>,
) {
    types.push(type_decl("message", scope, message.name.as_deref(), locations, at));
    let inner = names::full(scope, message.name.as_deref().unwrap_or_default());
    for (index, decl) in (0..).zip(&message.enum_type) {
        let at = [at, &[path::NESTED_ENUM, index]].concat();
        types.push(type_decl("enum", &inner, decl.name.as_deref(), locations, &at));
    }
    for (index, nested) in (0..).zip(&message.nested_type) {
        let at = [at, &[path::NESTED_MESSAGE, index]].concat();
        read_message(nested, &inner, locations, &at, types);
    }
}

fn type_decl(
    kind: &'static str,
    scope: &str,
    name: Option<&str>,
    locations: &Locations,
    at: &[i32],
) -> TypeDecl {
    let name = name.unwrap_or_default().to_owned();
    TypeDecl { place: locations.place(at), kind, scope: scope.to_owned(), name }
}

/// Adds the services and error enums of one listed file.
pub(crate) fn read(file: &FileDescriptorProto, locations: &Locations, schema: &mut Schema) {
    read_services(file, locations, schema);
    let package = file.package.as_deref().unwrap_or_default();
    let mut enums = Enums { package, locations, errors: &mut schema.errors };
    for (index, decl) in (0..).zip(&file.enum_type) {
        enums.read(decl, &[path::ENUM, index]);
    }
    for (index, message) in (0..).zip(&file.message_type) {
        enums.read_nested(message, &[path::MESSAGE, index]);
    }
}

fn read_services(file: &FileDescriptorProto, locations: &Locations, schema: &mut Schema) {
    let package = file.package.as_deref().unwrap_or_default();
    for (index, service) in (0..).zip(&file.service) {
        let name = service.name.clone().unwrap_or_default();
        let at = [path::SERVICE, index];
        schema.services.push(Service {
            place: locations.place(&at),
            docs: locations.comment(&at),
            package: package.to_owned(),
            full_name: names::full(package, &name),
            module: names::snake(&name),
            name,
            methods: (0..)
                .zip(&service.method)
                .map(|(method, decl)| {
                    read_method(decl, locations, &[path::SERVICE, index, path::METHOD, method])
                })
                .collect(),
        });
    }
}

fn read_method(method: &MethodDescriptorProto, locations: &Locations, at: &[i32]) -> Method {
    let name = method.name.clone().unwrap_or_default();
    Method {
        place: locations.place(at),
        docs: locations.comment(at),
        rust_name: names::method(&name),
        name,
        input: method.input_type.clone().unwrap_or_default(),
        output: method.output_type.clone().unwrap_or_default(),
        client_streaming: method.client_streaming.unwrap_or_default(),
        server_streaming: method.server_streaming.unwrap_or_default(),
        idempotency: match method.options.idempotency_level {
            Some(IdempotencyLevel::NO_SIDE_EFFECTS) => Idempotency::NoSideEffects,
            Some(IdempotencyLevel::IDEMPOTENT) => Idempotency::Idempotent,
            _ => Idempotency::Unknown,
        },
        deprecated: method.options.deprecated.unwrap_or_default(),
        http: options::http(&method.options.__buffa_unknown_fields),
    }
}

/// Picks the error enums out of all enums.
struct Enums<'a> {
    package: &'a str,
    locations: &'a Locations,
    errors: &'a mut Vec<ErrorEnum>,
}

impl Enums<'_> {
    fn read_nested(&mut self, message: &DescriptorProto, at: &[i32]) {
        for (index, decl) in (0..).zip(&message.enum_type) {
            self.read(decl, &[at, &[path::NESTED_ENUM, index]].concat());
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            self.read_nested(nested, &[at, &[path::NESTED_MESSAGE, index]].concat());
        }
    }

    fn read(&mut self, decl: &EnumDescriptorProto, at: &[i32]) {
        let default_code = options::default_code(&decl.options.__buffa_unknown_fields);
        let name = decl.name.as_deref().unwrap_or_default();
        let mut reasons = Vec::new();
        for (index, value) in (0..).zip(&decl.value) {
            let at = [at, &[path::VALUE, index]].concat();
            let reason = value.name.clone().unwrap_or_default();
            let spec = options::error_spec(&value.options.__buffa_unknown_fields);
            let unspecified = value.number == Some(0) && reason.ends_with("_UNSPECIFIED");
            if unspecified && spec.is_none() {
                continue;
            }
            reasons.push(Reason {
                place: self.locations.place(&at),
                docs: self.locations.comment(&at),
                rust_name: names::reason(name, &reason),
                name: reason,
                spec,
            });
        }
        if default_code.is_none() && reasons.iter().all(|reason| reason.spec.is_none()) {
            return;
        }
        self.errors.push(ErrorEnum {
            place: self.locations.place(at),
            docs: self.locations.comment(at),
            package: self.package.to_owned(),
            name: name.to_owned(),
            module: names::snake(name),
            default_code,
            reasons,
        });
    }
}
