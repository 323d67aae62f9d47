//! Error enums: a code for every reason, and no two reasons alike.

use std::collections::HashMap;

use crate::codes;
use crate::error::Problems;
use crate::schema::{ErrorEnum, Reason};

/// Checks every error enum.
pub(crate) fn check(enums: &[ErrorEnum], problems: &mut Problems) {
    for errors in enums {
        if let Some(wrong) = errors.default_code.and_then(unusable) {
            problems.add(
                &errors.place,
                format!("enum {}: default_code {wrong}; take another, such as INTERNAL", errors.name),
            );
        }
        let mut functions = HashMap::new();
        for reason in &errors.reasons {
            code(errors, reason, problems);
            let first = functions.entry(reason.rust_name.as_str()).or_insert(reason);
            if !std::ptr::eq(*first, reason) {
                problems.add(
                    &reason.place,
                    format!(
                        "{}: becomes the function {}, as {} at {} does; rename one of the two",
                        reason.name, reason.rust_name, first.name, first.place
                    ),
                );
            }
        }
    }
}

fn code(errors: &ErrorEnum, reason: &Reason, problems: &mut Problems) {
    let own = reason.spec.as_ref().and_then(|spec| spec.code);
    let text = match own {
        None if errors.default_code.is_some() => return,
        None => format!(
            "{name}: has no code; write {name} = ... [(bowline.api.error) = {{ code: NOT_FOUND }}], \
             or give enum {of} an option (bowline.api.default_code)",
            name = reason.name,
            of = errors.name
        ),
        Some(code) => match unusable(code) {
            None => return,
            Some(wrong) => format!("{}: code {wrong}; take the one that tells what failed", reason.name),
        },
    };
    problems.add(&reason.place, text);
}

/// What is wrong with a code as that of an error.
fn unusable(code: i32) -> Option<String> {
    match code {
        0 => Some("OK is no error".to_owned()),
        code if codes::rust_name(code).is_none() => Some(format!("{code} is no google.rpc.Code")),
        _ => None,
    }
}
