//! Rust names: that no two things get the same one, and none gets a keyword.

use std::collections::{BTreeSet, HashMap};

use buffa_codegen::idents::is_rust_keyword;

use crate::emit::Messages;
use crate::error::{Place, Problems};
use crate::names;
use crate::schema::Schema;

/// Checks names that clash whatever else is generated.
pub(crate) fn check(schema: &Schema, problems: &mut Problems) {
    for service in &schema.services {
        let mut seen = HashMap::new();
        for method in &service.methods {
            let first = seen.entry(method.rust_name.as_str()).or_insert(method);
            if !std::ptr::eq(*first, method) {
                problems.add(
                    &method.place,
                    format!(
                        "rpc {}: becomes the method {}, as rpc {} at {} does; rename one of the two",
                        method.name, method.rust_name, first.name, first.place
                    ),
                );
            }
        }
    }
    let mut modules = HashMap::new();
    for decl in &schema.types {
        if is_rust_keyword(&decl.name) {
            problems.add(
                &decl.place,
                format!(
                    "{} {}: is a keyword of Rust; rename it, as in {}",
                    decl.kind,
                    decl.name,
                    capital(&decl.name)
                ),
            );
        }
        if decl.kind != "message" {
            continue;
        }
        let module = names::message_module(&decl.name);
        let first = modules.entry((&decl.place.file, &decl.scope, module.clone())).or_insert(decl);
        if !std::ptr::eq(*first, decl) {
            problems.add(
                &decl.place,
                format!(
                    "message {}: becomes the module {module}, as message {} at {} does; rename one of the two",
                    decl.name, first.name, first.place
                ),
            );
        }
    }
}

/// Checks the modules of services and error enums against all else that is in the package.
pub(crate) fn modules(schema: &Schema, messages: &[Messages], problems: &mut Problems) {
    let services = schema
        .services
        .iter()
        .map(|service| (&service.package, &service.module, "service", &service.name, &service.place));
    let errors =
        schema.errors.iter().map(|decl| (&decl.package, &decl.module, "error enum", &decl.name, &decl.place));
    let mut seen: HashMap<_, (&str, &String, &Place)> = HashMap::new();
    for (package, module, kind, name, place) in services.chain(errors) {
        let text = if let Some((kind, name, first)) = seen.get(&(package, module)) {
            format!("{kind} {name} at {first} does")
        } else if sub_packages(package, messages).contains(module.as_str()) {
            format!("package {} does", names::full(package, module))
        } else if let Some(first) = taken(package, module, messages, schema) {
            first
        } else {
            seen.insert((package, module), (kind, name, place));
            continue;
        };
        problems.add(
            place,
            format!("{kind} {name}: becomes the module {module}, as {text}; rename one of the two"),
        );
    }
}

/// The first segments of the packages within a package.
fn sub_packages<'a>(package: &str, messages: &'a [Messages]) -> BTreeSet<&'a str> {
    let below = messages.iter().filter_map(|other| {
        let rest = match package {
            "" => other.package.as_str(),
            _ => other.package.strip_prefix(package)?.strip_prefix('.')?,
        };
        rest.split('.').next()
    });
    below.filter(|segment| !segment.is_empty()).collect()
}

/// What the messages of the package already have by the name of `module`.
fn taken(package: &str, module: &str, messages: &[Messages], schema: &Schema) -> Option<String> {
    let code = &messages.iter().find(|messages| messages.package == package)?.code;
    let is_taken = code.items.iter().any(|item| match item {
        syn::Item::Mod(item) => item.ident == module,
        syn::Item::Struct(item) => item.ident == module,
        syn::Item::Enum(item) => item.ident == module,
        _ => false,
    });
    if !is_taken {
        return None;
    }
    let owner = schema.types.iter().find(|decl| {
        decl.scope == package && (decl.name == module || names::message_module(&decl.name) == module)
    });
    Some(owner.map_or_else(
        || format!("something of package {package} does"),
        |decl| format!("{} {} at {} does", decl.kind, decl.name, decl.place),
    ))
}

/// The name with a capital first, and something more where that is a keyword as well.
fn capital(name: &str) -> String {
    let mut signs = name.chars();
    let capital: String =
        signs.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(signs).collect();
    if is_rust_keyword(&capital) { format!("{capital}Value") } else { capital }
}
