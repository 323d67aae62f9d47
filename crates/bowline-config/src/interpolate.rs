//! `${VAR}` and `${VAR:-default}` in the strings of files.

use std::collections::BTreeMap;

use crate::node::{Node, Style, Value};
use crate::problem::{Origin, Problem};

/// Fills in every variable below `node`. What came from the environment itself is left as it is.
pub(crate) fn interpolate(
    node: &mut Node,
    path: &str,
    variables: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) {
    match &mut node.value {
        Value::Map(entries) => {
            for entry in entries {
                interpolate(&mut entry.node, &crate::de::join(path, &entry.key), variables, problems);
            }
        }
        Value::List(list) => {
            for (index, node) in list.iter_mut().enumerate() {
                interpolate(node, &format!("{path}[{index}]"), variables, problems);
            }
        }
        Value::Scalar(_) if matches!(node.origin, Origin::Env(_)) => {}
        Value::Scalar(scalar) => match fill(&scalar.text, variables) {
            Ok(None) => {}
            Ok(Some(text)) => {
                scalar.text = text;
                // `port: "${PORT}"` is a number as much as `port: ${PORT}`.
                scalar.style = Style::Loose;
            }
            Err(problem) => problems.push(problem.at(&node.origin, path)),
        },
    }
}

/// The text with variables filled in; `None` if there are none. `$${` stands for `${` itself.
fn fill(text: &str, variables: &BTreeMap<String, String>) -> Result<Option<String>, Problem> {
    if !text.contains("${") {
        return Ok(None);
    }
    let (mut filled, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = &reference[2..];
            continue;
        }
        filled.push_str(before);
        let Some((reference, after)) = reference[2..].split_once('}') else {
            return Err(Problem::new(
                "`${` is not closed; write ${VAR} or ${VAR:-default}, or $${ for the text itself",
            ));
        };
        filled.push_str(value(reference, variables)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(Some(filled))
}

fn value<'a>(reference: &'a str, variables: &'a BTreeMap<String, String>) -> Result<&'a str, Problem> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(valid) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Problem::new(format!(
            "`${{{reference}}}` names no variable; write ${{VAR}} or ${{VAR:-default}}"
        )));
    }
    // As in a shell, `:-` also stands in for a variable that is set to nothing.
    match (variables.get(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(Problem::new(format!(
            "the environment variable {name} is not set; set it or write ${{{name}:-default}}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(text: &str) -> Result<Option<String>, String> {
        let variables = [("A", "1"), ("EMPTY", ""), ("TRICK", "${A}")];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        fill(text, &variables).map_err(|p| p.to_string())
    }

    #[test]
    fn variables_and_defaults_are_filled_in_once() {
        for (text, expected) in [
            ("x${A}y${A}", "x1y1"),
            ("${B:-b}", "b"),
            ("${B:-}", ""),
            ("${EMPTY:-b}", "b"),
            ("${EMPTY}", ""),
            ("${TRICK}", "${A}"),
            ("$${A} ${A}", "${A} 1"),
            ("${B:-http://h:1/}", "http://h:1/"),
        ] {
            assert_eq!(filled(text).unwrap().as_deref(), Some(expected), "{text}");
        }
        assert_eq!(filled("$A $ {A}"), Ok(None));
    }

    #[test]
    fn what_is_missing_is_said_with_the_mend() {
        assert!(filled("${B}").unwrap_err().contains("B is not set; set it or write ${B:-default}"));
        assert!(filled("${A").unwrap_err().contains("not closed"));
        assert!(filled("${a b}").unwrap_err().contains("names no variable"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[$\\{\\}A:\\-a]{0,20}") {
            let _ = filled(&text);
        }
    }
}
