//! How protobuf names become Rust names.

use buffa_codegen::idents::to_shouty_snake_case;

/// `CatalogService` → `catalog_service`, `GetHTTPItem` → `get_http_item`.
pub(crate) fn snake(name: &str) -> String {
    to_shouty_snake_case(name).to_lowercase()
}

/// `GetItem` → `GET_ITEM`.
pub(crate) fn shouty(name: &str) -> String {
    to_shouty_snake_case(name)
}

/// The Rust method of an rpc. A client has a `new` and a `clone` of its own, so an rpc `New` is `new_`.
pub(crate) fn method(name: &str) -> String {
    let name = snake(name);
    if matches!(name.as_str(), "new" | "clone") { format!("{name}_") } else { name }
}

/// The Rust function of an error reason: without the enum's name in front, where it is there.
pub(crate) fn reason(enum_name: &str, value: &str) -> String {
    let prefix = format!("{}_", shouty(enum_name));
    let short = value.strip_prefix(&prefix).unwrap_or(value);
    let starts_well = short.starts_with(|first: char| first.is_ascii_alphabetic());
    snake(if starts_well { short } else { value })
}

/// The module buffa nests a message's own types in. Other than [`snake`], a digit starts no word after it.
pub(crate) fn message_module(name: &str) -> String {
    let signs: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (at, sign) in signs.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| signs[at]);
        let starts_word = sign.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_uppercase() && signs.get(at + 1).is_some_and(|next| next.is_lowercase())
            });
        if starts_word {
            out.push('_');
        }
        out.extend(sign.to_lowercase());
    }
    out
}

/// `package.name`, or the name alone in the empty package.
pub(crate) fn full(package: &str, name: &str) -> String {
    if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") }
}

/// The name among `candidates` that was probably meant: the closest, if it is close.
pub(crate) fn closest<'a>(meant: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (meant.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(meant, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut last = i + 1;
        row[0] = last;
        for (j, right) in b.iter().enumerate() {
            let above = row[j + 1];
            last = (above + 1).min(last + 1).min(diagonal + usize::from(left != *right));
            diagonal = above;
            row[j + 1] = last;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rust_conventions() {
        assert_eq!(snake("CatalogService"), "catalog_service");
        assert_eq!(snake("GetHTTPItem"), "get_http_item");
        assert_eq!(method("New"), "new_");
        assert_eq!(shouty("getItem"), "GET_ITEM");
        assert_eq!(message_module("HTTPRequest"), "http_request");
        assert_eq!(message_module("V2Item"), "v2item");
    }

    #[test]
    fn a_reason_drops_the_name_of_its_enum() {
        assert_eq!(reason("CatalogError", "CATALOG_ERROR_SOLD_OUT"), "sold_out");
        assert_eq!(reason("CatalogError", "ITEM_NOT_FOUND"), "item_not_found");
        assert_eq!(reason("Code", "CODE_3"), "code_3");
    }

    #[test]
    fn the_closest_name_is_one_that_could_be_a_slip() {
        assert_eq!(closest("idd", ["name", "id"]), Some("id"));
        assert_eq!(closest("shelf", ["name", "id"]), None);
        assert_eq!(closest("dispaly_name", ["display_name", "name"]), Some("display_name"));
    }
}
