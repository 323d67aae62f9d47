//! Which binding a path belongs to.

use std::borrow::Cow;
use std::collections::HashMap;

use bowline_core::{Error, Result};
use http::Method;
use percent_encoding::percent_decode_str;

use super::template::{Segment, Template};

/// What a leaf of the tree leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) route: usize,
    pub(crate) binding: usize,
}

#[derive(Debug)]
struct Leaf {
    /// `None` for any.
    method: Option<Method>,
    verb: Option<Box<str>>,
    template: Template,
    target: Target,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    one: Option<Box<Node>>,
    /// Leaves that end here.
    leaves: Vec<Leaf>,
    /// Leaves whose last segment is `**`.
    rest: Vec<Leaf>,
}

/// All REST bindings of a server.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    root: Node,
    /// Templates without variables, as they are: literals beat variables, so that nothing else can be meant.
    exact: HashMap<Box<str>, Vec<(Method, Target)>>,
}

/// What a look-up found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A binding and its variables' values.
    Route(Target, Vec<String>),
    /// The path exists for these methods only.
    OtherMethods(Vec<Method>),
    /// No such path.
    Nothing,
}

impl Tree {
    /// Adds a binding.
    ///
    /// # Errors
    /// If the template is malformed, or the same method and template are there already.
    pub(crate) fn add(&mut self, method: &str, pattern: &str, target: Target) -> Result<()> {
        let template = Template::parse(pattern)?;
        let method = match method {
            "*" => None,
            name => Some(Method::from_bytes(name.as_bytes()).map_err(|e| {
                Error::invalid_argument(format!("`{name}` is no HTTP method")).with_source(e)
            })?),
        };
        let mut node = &mut self.root;
        let mut rest = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::One => node = node.one.get_or_insert_default(),
                Segment::Rest => rest = true,
            }
        }
        let leaves = if rest { &mut node.rest } else { &mut node.leaves };
        if leaves.iter().any(|l| l.method == method && l.verb == template.verb) {
            let method = method.map_or_else(|| "*".into(), |m| m.to_string());
            return Err(Error::already_exists(format!("two methods are bound to {method} {pattern}")));
        }
        let literal = template.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)));
        let exact = literal && template.variables.is_empty() && !pattern.contains('%');
        if let (true, Some(method)) = (exact, &method) {
            self.exact.entry(pattern.into()).or_default().push((method.clone(), target));
        }
        leaves.push(Leaf { method, verb: template.verb.clone(), template, target });
        Ok(())
    }

    /// Finds the binding of `path`, as it came over the wire.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the path is no UTF-8 after decoding.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<Found> {
        let exact = self.exact.get(path).and_then(|targets| targets.iter().find(|(m, _)| m == method));
        if let Some((_, target)) = exact {
            return Ok(Found::Route(*target, Vec::new()));
        }
        let raw: Vec<&str> = match path.strip_prefix('/').unwrap_or(path) {
            "" => Vec::new(),
            path => path.split('/').collect(),
        };
        let mut others = Vec::new();
        // A verb is literal, so a path that ends in one is tried with it first.
        let verb = raw.last().and_then(|last| last.rsplit_once(':')).filter(|(_, verb)| !verb.is_empty());
        if let Some((head, verb)) = verb {
            let verb = decode(verb)?;
            let mut cut = raw.clone();
            if let Some(last) = cut.last_mut() {
                *last = head;
            }
            if let Some(leaf) = self.search(method, &cut, Some(&verb), &mut others)? {
                return Ok(Found::Route(leaf.target, values(leaf, &cut)?));
            }
        }
        if let Some(leaf) = self.search(method, &raw, None, &mut others)? {
            return Ok(Found::Route(leaf.target, values(leaf, &raw)?));
        }
        others.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        others.dedup();
        Ok(if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) })
    }

    fn search(
        &self,
        method: &Method,
        raw: &[&str],
        verb: Option<&str>,
        others: &mut Vec<Method>,
    ) -> Result<Option<&Leaf>> {
        let mut decoded = Vec::with_capacity(raw.len());
        for segment in raw {
            decoded.push(decode(segment)?);
        }
        let query = Query { method, verb, segments: &decoded };
        Ok(query.walk(&self.root, 0, others))
    }
}

struct Query<'a> {
    method: &'a Method,
    verb: Option<&'a str>,
    segments: &'a [Cow<'a, str>],
}

impl Query<'_> {
    /// Depth first, the most specific branch first: literal, `*`, `**`. The depth is bounded by the longest template.
    fn walk<'t>(&self, node: &'t Node, at: usize, others: &mut Vec<Method>) -> Option<&'t Leaf> {
        let Some(segment) = self.segments.get(at) else {
            let empty_rest = node.rest.iter().filter(|l| l.template.rest_may_be_empty());
            return self.pick(node.leaves.iter(), others).or_else(|| self.pick(empty_rest, others));
        };
        if let Some(found) = node.literals.get(&**segment).and_then(|next| self.walk(next, at + 1, others)) {
            return Some(found);
        }
        if !segment.is_empty()
            && let Some(found) = node.one.as_ref().and_then(|next| self.walk(next, at + 1, others))
        {
            return Some(found);
        }
        let left = self.segments.get(at..).unwrap_or_default();
        let blank = left.iter().all(|segment| segment.is_empty());
        self.pick(node.rest.iter().filter(|l| !blank || l.template.rest_may_be_empty()), others)
    }

    fn pick<'t>(&self, leaves: impl Iterator<Item = &'t Leaf>, others: &mut Vec<Method>) -> Option<&'t Leaf> {
        let mut any = None;
        for leaf in leaves.filter(|l| l.verb.as_deref() == self.verb) {
            match &leaf.method {
                Some(method) if method == self.method => return Some(leaf),
                Some(method) => others.push(method.clone()),
                None => any = Some(leaf),
            }
        }
        any
    }
}

/// The variables' values. `%2F` stays in a variable of several segments.
fn values(leaf: &Leaf, raw: &[&str]) -> Result<Vec<String>> {
    let template = &leaf.template;
    template
        .variables
        .iter()
        .map(|variable| {
            let spans_rest = template.segments.get(variable.end - 1) == Some(&Segment::Rest);
            let end = if spans_rest { raw.len() } else { variable.end };
            let several = variable.end - variable.start > 1 || spans_rest;
            let parts = raw.get(variable.start..end).unwrap_or_default();
            let mut value = String::new();
            for (i, part) in parts.iter().enumerate() {
                if i > 0 {
                    value.push('/');
                }
                value.push_str(&if several { decode_but_slash(part)? } else { decode(part)? });
            }
            Ok(value)
        })
        .collect()
}

fn decode(segment: &str) -> Result<Cow<'_, str>> {
    percent_decode_str(segment).decode_utf8().map_err(|e| {
        Error::invalid_argument("the path is no UTF-8 after percent-decoding")
            .with_reason("INVALID_PATH")
            .with_source(e)
    })
}

fn decode_but_slash(segment: &str) -> Result<Cow<'_, str>> {
    let mut value = String::new();
    let mut left = segment;
    while let Some(at) = left.find("%2F").into_iter().chain(left.find("%2f")).min() {
        value.push_str(&decode(&left[..at])?);
        value.push_str("%2F");
        left = &left[at + 3..];
    }
    value.push_str(&decode(left)?);
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(patterns: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (route, (method, pattern)) in patterns.iter().enumerate() {
            tree.add(method, pattern, Target { route, binding: 0 }).unwrap();
        }
        tree
    }

    #[track_caller]
    fn expect(tree: &Tree, method: &str, path: &str, route: usize, values: &[&str]) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let expected =
            Found::Route(Target { route, binding: 0 }, values.iter().map(|v| (*v).to_owned()).collect());
        assert_eq!(tree.find(&method, path).unwrap(), expected, "{path}");
    }

    #[test]
    fn literals_beat_variables_and_variables_beat_the_rest() {
        let tree = tree(&[
            ("GET", "/v1/items/{id}"),
            ("GET", "/v1/items/latest"),
            ("GET", "/v1/{rest=**}"),
            ("GET", "/v1/items/{id}/parts/{part}"),
        ]);
        expect(&tree, "GET", "/v1/items/7", 0, &["7"]);
        expect(&tree, "GET", "/v1/items/latest", 1, &[]);
        expect(&tree, "GET", "/v1/other/a/b", 2, &["other/a/b"]);
        expect(&tree, "GET", "/v1/items/7/parts/8", 3, &["7", "8"]);
        expect(&tree, "GET", "/v1/items/latest/parts/8", 3, &["latest", "8"]);
        expect(&tree, "GET", "/v1/items/7/else", 2, &["items/7/else"]);
    }

    #[test]
    fn the_rest_needs_a_segment_unless_it_stands_alone() {
        let tree_with_prefix = tree(&[("GET", "/v1/{rest=**}")]);
        for empty in ["/v1", "/v1/", "/v1//"] {
            assert_eq!(tree_with_prefix.find(&Method::GET, empty).unwrap(), Found::Nothing, "{empty}");
        }
        expect(&tree_with_prefix, "GET", "/v1/a/", 0, &["a/"]);
        let with_verb = tree(&[("GET", "/v1/{rest=**}:read")]);
        assert_eq!(with_verb.find(&Method::GET, "/v1/:read").unwrap(), Found::Nothing);
        expect(&with_verb, "GET", "/v1/a:read", 0, &["a"]);
        let alone = tree(&[("GET", "/{rest=**}")]);
        expect(&alone, "GET", "/", 0, &[""]);
        expect(&alone, "GET", "/a/b", 0, &["a/b"]);
    }

    #[test]
    fn verbs_are_literal() {
        let tree = tree(&[("POST", "/v1/orders/{id}:cancel"), ("POST", "/v1/orders/{id}")]);
        expect(&tree, "POST", "/v1/orders/7:cancel", 0, &["7"]);
        expect(&tree, "POST", "/v1/orders/7:other", 1, &["7:other"]);
        expect(&tree, "POST", "/v1/orders/a:b:cancel", 0, &["a:b"]);
    }

    #[test]
    fn an_encoded_slash_decodes_in_one_segment_and_stays_in_several() {
        let tree = tree(&[("GET", "/one/{v}"), ("GET", "/many/{v=**}"), ("GET", "/two/{v=a/*}")]);
        expect(&tree, "GET", "/one/a%2Fb+c%20d", 0, &["a/b+c d"]);
        expect(&tree, "GET", "/many/a%2Fb/c%2fd%20e", 1, &["a%2Fb/c%2Fd e"]);
        expect(&tree, "GET", "/two/a/b%2Fc", 2, &["a/b%2Fc"]);
        assert!(tree.find(&Method::GET, "/one/%ff").is_err());
    }

    #[test]
    fn literals_and_verbs_are_compared_decoded() {
        let tree = tree(&[("GET", "/café/{v}"), ("GET", "/menus/{v}:größer"), ("GET", "/thé")]);
        expect(&tree, "GET", "/caf%C3%A9/1", 0, &["1"]);
        expect(&tree, "GET", "/menus/1:gr%c3%b6%C3%9Fer", 1, &["1"]);
        expect(&tree, "GET", "/th%C3%A9", 2, &[]);
    }

    #[test]
    fn another_method_is_told_from_another_path() {
        let tree = tree(&[("GET", "/a"), ("POST", "/a"), ("*", "/b")]);
        assert_eq!(
            tree.find(&Method::DELETE, "/a").unwrap(),
            Found::OtherMethods(vec![Method::GET, Method::POST])
        );
        assert_eq!(tree.find(&Method::GET, "/a/").unwrap(), Found::Nothing);
        expect(&tree, "PATCH", "/b", 2, &[]);
    }

    #[test]
    fn the_same_binding_twice_is_refused() {
        let mut tree = tree(&[("GET", "/a/{b}")]);
        let target = Target { route: 1, binding: 0 };
        assert!(tree.add("GET", "/a/{c}", target).is_err());
        assert!(tree.add("PUT", "/a/{c}", target).is_ok());
    }
}
