//! Every message of the descriptor set by full name, for following field paths.

use std::collections::HashMap;

use buffa_codegen::generated::descriptor::field_descriptor_proto::{Label, Type};
use buffa_codegen::generated::descriptor::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// Messages by full name with a leading dot, as descriptors refer to them.
pub(crate) struct Types<'a>(HashMap<String, &'a DescriptorProto>);

/// What a field is to a path template or a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FieldRef {
    /// A single scalar or enum.
    Scalar,
    /// A single message, by full name.
    Message(String),
    /// A list or a map.
    Repeated,
}

impl<'a> Types<'a> {
    pub(crate) fn of(files: &'a [FileDescriptorProto]) -> Self {
        let mut types = HashMap::new();
        for file in files {
            let scope = match file.package.as_deref() {
                Some(package) if !package.is_empty() => format!(".{package}"),
                _ => String::new(),
            };
            for message in &file.message_type {
                insert(&mut types, &scope, message);
            }
        }
        Self(types)
    }

    /// A field of a message by its name in the `.proto` file.
    pub(crate) fn field(&self, message: &str, name: &str) -> Option<FieldRef> {
        let field = self.0.get(message)?.field.iter().find(|field| field.name.as_deref() == Some(name))?;
        Some(field_ref(field))
    }

    /// The names of a message's fields, in the order of the file.
    pub(crate) fn field_names(&self, message: &str) -> Vec<&str> {
        let Some(message) = self.0.get(message) else { return Vec::new() };
        message.field.iter().filter_map(|field| field.name.as_deref()).collect()
    }
}

fn field_ref(field: &FieldDescriptorProto) -> FieldRef {
    if field.label == Some(Label::LABEL_REPEATED) {
        return FieldRef::Repeated;
    }
    match field.r#type {
        Some(Type::TYPE_MESSAGE | Type::TYPE_GROUP) => {
            FieldRef::Message(field.type_name.clone().unwrap_or_default())
        }
        _ => FieldRef::Scalar,
    }
}

fn insert<'a>(types: &mut HashMap<String, &'a DescriptorProto>, scope: &str, message: &'a DescriptorProto) {
    let name = format!("{scope}.{}", message.name.as_deref().unwrap_or_default());
    for nested in &message.nested_type {
        insert(types, &name, nested);
    }
    types.insert(name, message);
}
