//! Which imported files must be generated along with the listed ones.

use std::collections::{BTreeSet, HashMap};

use buffa_codegen::generated::descriptor::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// The listed files, and every file that holds a type one of them refers to, and so on; in the order of
/// `files`. Files whose types are in the runtime are left out.
pub(crate) fn needed(files: &[FileDescriptorProto], listed: &[String]) -> Vec<String> {
    let homes = homes(files);
    let by_name: HashMap<&str, &FileDescriptorProto> =
        files.iter().filter_map(|file| Some((file.name.as_deref()?, file))).collect();
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = listed.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        let Some(file) = by_name.get(name) else { continue };
        if is_well_known(file) || !found.insert(name) {
            continue;
        }
        open.extend(references(file).iter().filter_map(|reference| homes.get(reference)));
    }
    files.iter().filter_map(|file| file.name.clone()).filter(|name| found.contains(name.as_str())).collect()
}

/// Whether the types of a file come with the runtime. `api.proto`, `type.proto` and
/// `source_context.proto` do not: the runtime's copies have no JSON form.
pub(crate) fn is_well_known(file: &FileDescriptorProto) -> bool {
    const OURS: [&str; 3] =
        ["google/protobuf/api.proto", "google/protobuf/type.proto", "google/protobuf/source_context.proto"];
    let package = file.package.as_deref().unwrap_or_default();
    let of_protobuf = package == "google.protobuf" || package == "google.protobuf.compiler";
    of_protobuf && !file.name.as_deref().is_some_and(|name| OURS.contains(&name))
}

/// Full type name, with a leading dot, to the file it is defined in.
fn homes(files: &[FileDescriptorProto]) -> HashMap<String, &str> {
    let mut homes = HashMap::new();
    for file in files {
        let home = file.name.as_deref().unwrap_or_default();
        let scope = match file.package.as_deref() {
            Some(package) if !package.is_empty() => format!(".{package}"),
            _ => String::new(),
        };
        for decl in &file.enum_type {
            homes.insert(format!("{scope}.{}", decl.name.as_deref().unwrap_or_default()), home);
        }
        for message in &file.message_type {
            message_homes(message, &scope, home, &mut homes);
        }
    }
    homes
}

fn message_homes<'a>(
    message: &DescriptorProto,
    scope: &str,
    home: &'a str,
    homes: &mut HashMap<String, &'a str>,
) {
    let name = format!("{scope}.{}", message.name.as_deref().unwrap_or_default());
    for decl in &message.enum_type {
        homes.insert(format!("{name}.{}", decl.name.as_deref().unwrap_or_default()), home);
    }
    for nested in &message.nested_type {
        message_homes(nested, &name, home, homes);
    }
    homes.insert(name, home);
}

/// The types the code of a file names.
fn references(file: &FileDescriptorProto) -> Vec<String> {
    let mut out = Vec::new();
    file.extension.iter().for_each(|field| field_references(field, &mut out));
    file.message_type.iter().for_each(|message| message_references(message, &mut out));
    for method in file.service.iter().flat_map(|service| &service.method) {
        out.extend(method.input_type.clone());
        out.extend(method.output_type.clone());
    }
    out
}

fn message_references(message: &DescriptorProto, out: &mut Vec<String>) {
    message.field.iter().for_each(|field| field_references(field, out));
    message.extension.iter().for_each(|field| field_references(field, out));
    message.nested_type.iter().for_each(|nested| message_references(nested, out));
}

fn field_references(field: &FieldDescriptorProto, out: &mut Vec<String>) {
    out.extend(field.type_name.clone());
    out.extend(field.extendee.clone());
}
