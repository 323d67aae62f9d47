//! Overrides from the environment: `PREFIX__SERVER__ADDR=…` sets `server.addr`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::node::{Entry, Node, Style, Value};
use crate::problem::{Origin, Problem};

const SEPARATOR: &str = "__";

/// Lays every variable that begins with the prefix over `root`.
pub(crate) fn apply(
    root: &mut Node,
    prefix: &str,
    variables: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) {
    let start = format!("{prefix}{SEPARATOR}");
    for (name, value) in variables {
        let Some(path) = name.strip_prefix(&start) else { continue };
        let origin = Origin::Env(Arc::from(name.as_str()));
        let keys: Vec<&str> = path.split(SEPARATOR).collect();
        let result = if keys.iter().any(|key| key.is_empty()) {
            let message = format!("a part of the name is empty; write it like {prefix}__SERVER__ADDR");
            Err(Problem::new(message).at(&origin, ""))
        } else {
            set(root, &keys, value, &origin)
        };
        if let Err(problem) = result {
            problems.push(problem);
        }
    }
}

fn set(node: &mut Node, keys: &[&str], value: &str, origin: &Origin) -> Result<(), Problem> {
    let [key, rest @ ..] = keys else {
        *node = Node::scalar(origin.clone(), value, Style::Loose);
        return Ok(());
    };
    match &mut node.value {
        Value::Map(entries) => {
            let at = find(entries.iter().map(|e| e.key.as_str()), key).unwrap_or_else(|| {
                let node = Node::new(origin.clone(), Value::Map(Vec::new()));
                entries.push(Entry { key: key.to_lowercase(), origin: origin.clone(), node });
                entries.len() - 1
            });
            entries.get_mut(at).map_or(Ok(()), |entry| set(&mut entry.node, rest, value, origin))
        }
        Value::List(list) => {
            let length = list.len();
            match key.parse::<usize>() {
                Ok(index) if index == length => {
                    let mut new = Node::new(origin.clone(), Value::Map(Vec::new()));
                    set(&mut new, rest, value, origin)?;
                    list.push(new);
                    Ok(())
                }
                Ok(index) if index < length => set(&mut list[index], rest, value, origin),
                _ => Err(Problem::new(format!(
                    "`{key}` is no place in a list of {length}; use 0 to {length}, the last to append"
                ))
                .at(origin, "")),
            }
        }
        Value::Scalar(_) => {
            // What is there is no map, but what is asked for may be: the type decides.
            *node = Node::new(origin.clone(), Value::Map(Vec::new()));
            set(node, keys, value, origin)
        }
    }
}

/// Which of the names a variable's part means: the one spelled the same, or else the one that differs only in case and
/// separators (`MAX_BODY` is `max_body`, `max-body` or `maxBody`).
pub(crate) fn find<'a>(names: impl Iterator<Item = &'a str> + Clone, part: &str) -> Option<usize> {
    let plain = |name: &str| -> String {
        name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
    };
    let exact = names.clone().position(|name| name == part);
    exact.or_else(|| {
        let part = plain(part);
        names.clone().position(|name| plain(name) == part)
    })
}
