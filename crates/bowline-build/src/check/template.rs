//! Path templates of REST bindings.
//!
//! ```text
//! template = "/" segments [ ":" verb ]
//! segments = segment { "/" segment }
//! segment  = "*" | "**" | literal | variable
//! variable = "{" field { "." field } [ "=" segments ] "}"
//! ```
//!
//! `**` takes all that is left and so must come last, also within a variable. A literal is written as it reads: the server
//! compares paths after decoding them.

use percent_encoding::percent_decode_str;

/// What the checks need to know of a template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// The field paths of the variables, in order.
    pub(crate) variables: Vec<String>,
    /// What is matched, names left out: templates of one shape match the same paths.
    pub(crate) shape: String,
}

/// Parses a template; the error says what is wrong and how to mend it.
pub(crate) fn parse(pattern: &str) -> Result<Template, String> {
    let Some(path) = pattern.strip_prefix('/') else {
        return Err(format!("path {pattern:?} does not start with a slash; write \"/{pattern}\""));
    };
    let (path, verb) = split_verb(path);
    if let Some(verb) = verb {
        if !is_literal(verb) {
            return Err(format!(
                "path {pattern:?} has no name after the colon; write one, or remove the colon"
            ));
        }
        decoded(verb, pattern)?;
    }
    let mut template = Template { variables: Vec::new(), shape: String::new() };
    let mut rest = Some(path);
    let mut open = true;
    while let Some(current) = rest {
        if !open {
            return Err(format!("path {pattern:?} goes on after **; let ** be the last segment"));
        }
        let (segment, next) = split_segment(current).ok_or_else(|| unclosed(pattern))?;
        open = template.segment(segment, pattern)?;
        rest = next;
    }
    if let Some(verb) = verb {
        template.shape.push(':');
        template.shape.push_str(verb);
    }
    Ok(template)
}

impl Template {
    /// Adds one segment; tells whether others may follow.
    fn segment(&mut self, segment: &str, pattern: &str) -> Result<bool, String> {
        let Some(variable) = segment.strip_prefix('{') else {
            return self.plain(segment, pattern);
        };
        let Some(variable) = variable.strip_suffix('}') else { return Err(unclosed(pattern)) };
        let (name, segments) = variable.split_once('=').unwrap_or((variable, "*"));
        if !name.split('.').all(is_field) {
            return Err(format!(
                "path {pattern:?} has a variable {{{variable}}} without a field's name; write {{field}} or {{field=segments}}"
            ));
        }
        if self.variables.iter().any(|known| known == name) {
            return Err(format!("path {pattern:?} has the variable {{{name}}} twice; keep one of them"));
        }
        self.variables.push(name.to_owned());
        let mut open = true;
        for segment in segments.split('/') {
            if !open {
                return Err(format!("path {pattern:?} goes on after **; let ** be the last segment"));
            }
            if segment.contains('{') {
                return Err(format!("path {pattern:?} has a variable within {{{name}}}; put it beside"));
            }
            open = self.plain(segment, pattern)?;
        }
        Ok(open)
    }

    fn plain(&mut self, segment: &str, pattern: &str) -> Result<bool, String> {
        if segment.is_empty() {
            return Err(format!("path {pattern:?} has an empty segment; remove the slash too many"));
        }
        if !matches!(segment, "*" | "**") && !is_literal(segment) {
            return Err(format!(
                "path {pattern:?} has a segment {segment:?} that is neither a name, *, ** nor a whole {{variable}}; \
                 a variable takes a segment to itself"
            ));
        }
        decoded(segment, pattern)?;
        self.shape.push('/');
        self.shape.push_str(segment);
        Ok(segment != "**")
    }
}

fn unclosed(pattern: &str) -> String {
    format!("path {pattern:?} has braces that do not match; write {{field}}")
}

/// Cuts a verb off: what follows the last colon, if that is outside of braces.
fn split_verb(path: &str) -> (&str, Option<&str>) {
    match path.rsplit_once(':') {
        Some((head, verb)) if !verb.contains(['}', '/']) => (head, Some(verb)),
        _ => (path, None),
    }
}

/// The first segment and what follows its slash. `None` when braces do not match.
fn split_segment(path: &str) -> Option<(&str, Option<&str>)> {
    let mut depth = 0usize;
    for (at, sign) in path.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth = depth.checked_sub(1)?,
            '/' if depth == 0 => return Some((&path[..at], Some(&path[at + 1..]))),
            _ => {}
        }
    }
    (depth == 0).then_some((path, None))
}

/// What a caller can write into a path unescaped, what it escapes because it is not ASCII, and the percent sign, for which
/// [`decoded`] knows the mend.
fn is_literal(text: &str) -> bool {
    let plain = |sign: char| match sign {
        _ if sign.is_ascii() => sign.is_ascii_alphanumeric() || "-_.~!$&'(),;@+%".contains(sign),
        _ => !sign.is_control() && !sign.is_whitespace(),
    };
    !text.is_empty() && text.chars().all(plain)
}

/// Refuses a literal with percent escapes: the decoded path would never equal it.
fn decoded(literal: &str, pattern: &str) -> Result<(), String> {
    if !literal.contains('%') {
        return Ok(());
    }
    let mend = match percent_decode_str(literal).decode_utf8() {
        Ok(plain) if is_literal(&plain) && !plain.contains('%') => format!("write it decoded: {plain:?}"),
        _ => "write it without the percent sign".to_owned(),
    };
    Err(format!("path {pattern:?} has {literal:?}, which never matches: paths are compared decoded; {mend}"))
}

fn is_field(text: &str) -> bool {
    let mut signs = text.chars();
    signs.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && signs.all(|sign| sign.is_ascii_alphanumeric() || sign == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pattern: &str) -> (Vec<String>, String) {
        let template = parse(pattern).expect(pattern);
        (template.variables, template.shape)
    }

    #[test]
    fn variables_and_verbs_are_found() {
        assert_eq!(parsed("/v1/items/{id}"), (vec!["id".into()], "/v1/items/*".into()));
        assert_eq!(
            parsed("/v1/{name=shelves/*/books/*}:move"),
            (vec!["name".into()], "/v1/shelves/*/books/*:move".into())
        );
        assert_eq!(parsed("/v1/{a.b=**}"), (vec!["a.b".into()], "/v1/**".into()));
        assert_eq!(parsed("/v1/{a}/x/{b}"), (vec!["a".into(), "b".into()], "/v1/*/x/*".into()));
        assert_eq!(parsed("/**"), (vec![], "/**".into()));
        assert_eq!(parsed("/café/größer"), (vec![], "/café/größer".into()));
    }

    #[test]
    fn names_of_variables_do_not_tell_paths_apart() {
        assert_eq!(parsed("/v1/{id}").1, parsed("/v1/{name=*}").1);
        assert_ne!(parsed("/v1/{id}").1, parsed("/v1/{id}:cancel").1);
    }

    #[test]
    fn malformed_templates_are_refused() {
        for pattern in [
            "v1",
            "",
            "/",
            "/v1/",
            "/v1//x",
            "/v1/{id",
            "/v1/id}",
            "/v1/{}",
            "/v1/{=x}",
            "/v1/{a.}",
            "/v1/a{b}",
            "/v1/{a}{b}",
            "/v1/{a={b}}",
            "/**/x",
            "/v1/{a=**}/x",
            "/v1/{a=**/x}",
            "/v1/{a}/{a}",
            "/v1:",
            "/a b",
            "/a?b",
            "/a\u{a0}b",
            "/caf%C3%A9",
            "/v1/{a=caf%C3%A9/*}",
            "/100%",
            "/a%2Fb",
            "/v1/{a}:caf%C3%A9",
        ] {
            assert!(parse(pattern).is_err(), "{pattern}");
        }
    }
}
