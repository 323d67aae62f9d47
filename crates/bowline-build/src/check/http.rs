//! REST bindings: paths, variables, bodies, and that no two methods want the same requests.

use std::collections::HashMap;

use super::template::{self, Template};
use crate::error::Problems;
use crate::names::closest;
use crate::options::Binding;
use crate::schema::{FieldRef, Method, Service, Types};

/// Checks every binding of every service.
pub(crate) fn check(services: &[Service], types: &Types<'_>, problems: &mut Problems) {
    let mut taken = HashMap::new();
    for method in services.iter().flat_map(|service| &service.methods) {
        for rule in &method.http {
            let mut check = Check { method, rule, types, problems };
            let Some(template) = check.binding() else { continue };
            let first = taken.entry((rule.verb.as_str(), template.shape)).or_insert((method, rule));
            if !std::ptr::eq(first.1, rule) {
                same(*first, (method, rule), problems);
            }
        }
    }
}

/// Reports the second of two bindings that match the same requests.
fn same(
    (first, first_rule): (&Method, &Binding),
    (method, rule): (&Method, &Binding),
    problems: &mut Problems,
) {
    let alike = if first_rule.pattern == rule.pattern {
        String::new()
    } else {
        format!(" as {}", first_rule.pattern)
    };
    let text = format!(
        "rpc {}: {} {} is taken{alike} by rpc {} at {}; change one of the two",
        method.name, rule.verb, rule.pattern, first.name, first.place
    );
    problems.add(&method.place, text);
}

/// One binding under check.
struct Check<'a> {
    method: &'a Method,
    rule: &'a Binding,
    types: &'a Types<'a>,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn add(&mut self, text: &str) {
        self.problems.add(&self.method.place, format!("rpc {}: {text}", self.method.name));
    }

    /// Checks the binding; its template, if it has one that can be matched.
    fn binding(&mut self) -> Option<Template> {
        if self.rule.nested {
            self.add(
                "additional_bindings stand within additional_bindings; move them up, beside the others of the method",
            );
        }
        if self.rule.verb.is_empty() || self.rule.pattern.is_empty() {
            self.add("the http rule has no path; write one, as in get: \"/v1/...\"");
            return None;
        }
        self.bodies();
        match template::parse(&self.rule.pattern) {
            Ok(template) => {
                for variable in &template.variables {
                    if self.method.client_streaming {
                        self.add(&format!(
                            "path variable {{{variable}}} belongs to no single message of a stream of requests; \
                             remove it from the path, each message has the field"
                        ));
                    } else {
                        self.variable(variable);
                    }
                }
                Some(template)
            }
            Err(text) => {
                self.add(&text);
                None
            }
        }
    }

    fn bodies(&mut self) {
        let Binding { verb, body, response_body, .. } = self.rule;
        if self.method.client_streaming && matches!(verb.as_str(), "GET" | "HEAD") {
            self.add(&format!(
                "{verb} has no body, but a stream of requests comes in one; use post with body: \"*\""
            ));
        } else if !body.is_empty() && matches!(verb.as_str(), "GET" | "HEAD") {
            self.add(&format!(
                "{verb} has no body, but body is {body:?}; remove it (fields outside of the path are query parameters) or use post"
            ));
        } else if self.method.client_streaming && body != "*" {
            self.add("a stream of requests comes in the body as a whole; set body: \"*\"");
        } else if !body.is_empty() && body != "*" {
            self.top_level("body", body, &self.method.input, " or \"*\"");
        }
        if !response_body.is_empty() {
            self.top_level("response_body", response_body, &self.method.output, "");
        }
    }

    fn top_level(&mut self, option: &str, name: &str, message: &str, or: &str) {
        if self.types.field(message, name).is_some() {
            return;
        }
        let known = self.types.field_names(message);
        let mend = match closest(name, known) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("give the name of one of its fields{or}"),
        };
        self.add(&format!("{option} {name:?} names no field of {}; {mend}", plain(message)));
    }

    /// Follows the field path of a variable: messages on the way, a single value at its end.
    fn variable(&mut self, variable: &str) {
        let mut message = self.method.input.clone();
        let mut names = variable.split('.').peekable();
        while let Some(name) = names.next() {
            let ends = names.peek().is_none();
            let of = plain(&message).to_owned();
            match (self.types.field(&message, name), ends) {
                (None, _) => {
                    let text = self.unknown(variable, name, &message);
                    return self.add(&text);
                }
                (Some(FieldRef::Repeated), _) => {
                    return self.add(&format!(
                        "path variable {{{variable}}} is a list: {of}.{name} is repeated; \
                         use a single field, a path has one value for it"
                    ));
                }
                (Some(FieldRef::Message(inner)), true) => {
                    let mend = match self.types.field_names(&inner).first() {
                        Some(first) => format!("name a field within it, such as {{{variable}.{first}}}"),
                        None => "use a field with a single value".to_owned(),
                    };
                    return self.add(&format!(
                        "path variable {{{variable}}} is a message: {of}.{name} is a {}; {mend}",
                        plain(&inner)
                    ));
                }
                (Some(FieldRef::Message(inner)), false) => message = inner,
                (Some(FieldRef::Scalar), false) => {
                    return self.add(&format!(
                        "path variable {{{variable}}} goes into {of}.{name}, which is no message; end the variable there"
                    ));
                }
                (Some(FieldRef::Scalar), true) => {}
            }
        }
    }

    fn unknown(&self, variable: &str, name: &str, message: &str) -> String {
        let of = plain(message);
        let known = self.types.field_names(message);
        let mend = match closest(name, known.iter().copied()) {
            Some(meant) => {
                let head = variable.rfind(name).map(|at| &variable[..at]).unwrap_or_default();
                format!("did you mean {{{head}{meant}}}?")
            }
            None if known.is_empty() => format!("add the field to {of}"),
            None => format!("it has {}", known.join(", ")),
        };
        format!("path variable {{{variable}}} names no field of {of}; {mend}")
    }
}

/// A type name without the dot in front.
fn plain(name: &str) -> &str {
    name.trim_start_matches('.')
}
