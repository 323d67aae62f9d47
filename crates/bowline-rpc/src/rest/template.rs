//! Path templates: `/v1/{name=shelves/*/books/*}:publish`.
//!
//! ```text
//! Template = "/" Segments [ ":" Literal ]
//! Segments = Segment { "/" Segment }
//! Segment  = "*" | "**" | Literal | "{" FieldPath [ "=" Segments ] "}"
//! ```
//! The grammar is that of `google/api/http.proto`.

use bowline_core::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(Box<str>),
    /// `*`: exactly one.
    One,
    /// `**`: the rest.
    Rest,
}

/// A field path and the segments it spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) field: Box<str>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) verb: Option<Box<str>>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid_argument(format!("`{text}` is no path template: {why}"));
        let rest = text.strip_prefix('/').ok_or_else(|| wrong("it must start with `/`"))?;
        // A verb comes after the last segment, so a colon inside braces is none.
        let tail = rest.rfind(['}', '/']).map_or(0, |i| i + 1);
        let (path, verb) = match rest[tail..].split_once(':') {
            Some((_, "")) => return Err(wrong("the verb after `:` is empty")),
            Some((head, verb)) => (&rest[..tail + head.len()], Some(verb.into())),
            None => (rest, None),
        };
        let mut template = Self { segments: Vec::new(), variables: Vec::new(), verb };
        let mut left = path;
        while !left.is_empty() {
            let end = if left.starts_with('{') {
                left.find('}').ok_or_else(|| wrong("a brace is not closed"))? + 1
            } else {
                left.find('/').unwrap_or(left.len())
            };
            let (segment, after) = left.split_at(end);
            template.push(segment).map_err(&wrong)?;
            left = match after.strip_prefix('/') {
                Some("") => return Err(wrong("it ends with `/`")),
                Some(after) => after,
                None if after.is_empty() => after,
                None => return Err(wrong("a variable must be a whole segment")),
            };
        }
        let rest_inside = template.segments.iter().rev().skip(1).any(|s| *s == Segment::Rest);
        if rest_inside {
            return Err(wrong("`**` must be the last segment"));
        }
        Ok(template)
    }

    fn push(&mut self, segment: &str) -> Result<(), &'static str> {
        let Some(variable) = segment.strip_prefix('{') else {
            self.segments.push(plain(segment)?);
            return Ok(());
        };
        let variable = variable.strip_suffix('}').ok_or("a brace is not closed")?;
        let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
        if field.is_empty() || !field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
            return Err("a variable's name must be a field path");
        }
        let start = self.segments.len();
        for segment in pattern.split('/') {
            self.segments.push(plain(segment)?);
        }
        self.variables.push(Variable { field: field.into(), start, end: self.segments.len() });
        Ok(())
    }

    /// Whether `**` may match nothing: only when it is the whole template.
    pub(crate) fn rest_may_be_empty(&self) -> bool {
        self.segments.len() == 1
    }
}

fn plain(segment: &str) -> Result<Segment, &'static str> {
    match segment {
        "" => Err("a segment is empty"),
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Rest),
        text if text.contains(['{', '}', '*', '=']) => Err("a literal may not hold `{`, `}`, `*` or `=`"),
        text => Ok(Segment::Literal(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_segments_variables_and_a_verb() {
        let template = Template::parse("/v1/{name=shelves/*/books/*}/{rest=**}:publish").unwrap();
        let literal = |text: &str| Segment::Literal(text.into());
        assert_eq!(
            template.segments,
            [literal("v1"), literal("shelves"), Segment::One, literal("books"), Segment::One, Segment::Rest]
        );
        assert_eq!(template.variables[0], Variable { field: "name".into(), start: 1, end: 5 });
        assert_eq!(template.verb.as_deref(), Some("publish"));
        assert!(Template::parse("/").unwrap().segments.is_empty());
    }

    #[test]
    fn malformed_templates_are_refused() {
        for bad in ["", "v1", "/v1/", "/{a", "/{a}b", "/a/**/b", "/{=x}", "/a:", "//a", "/{a=}", "/a*"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
