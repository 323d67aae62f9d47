//! From YAML text to nodes.

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::node::{Entry, Node, Style, Value};
use crate::problem::{Origin, Problem};

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 64;
/// More nodes, with every alias counted for what it stands for, are refused: a few lines of aliases can stand for billions.
const MAX_NODES: usize = 100_000;

/// Reads one document. An empty one is an empty map.
pub(crate) fn parse(name: &str, text: &str) -> Result<Node, Problem> {
    let events = Parser::new_from_str(text);
    let mut reader = Reader { events, name: name.into(), anchors: HashMap::new(), nodes: 0 };
    reader.document()
}

struct Reader<P> {
    events: P,
    name: Arc<str>,
    /// What each anchor stands for, and of how many nodes it is made.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a, P: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<P> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut document = None;
        loop {
            let (event, origin) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                _ if document.is_some() => {
                    return Err(Problem::new("a second document; a configuration is one").at(&origin, ""));
                }
                event => document = Some(self.node(event, origin, 0)?),
            }
        }
        let start = Origin::File { name: Arc::clone(&self.name), line: 1, column: 1 };
        match document {
            Some(node) if !node.is_null() => Ok(node),
            _ => Ok(Node::new(start, Value::Map(Vec::new()))),
        }
    }

    /// The next event that carries content.
    fn next(&mut self) -> Result<(Event<'a>, Origin), Problem> {
        loop {
            let origin = |line, column| Origin::File { name: Arc::clone(&self.name), line, column };
            match self.events.next() {
                None => return Ok((Event::StreamEnd, origin(0, 0))),
                Some(Err(error)) => {
                    let at = error.marker();
                    let at = origin(at.line(), at.col() + 1);
                    return Err(Problem::new(format!("this is no YAML: {}", error.info())).at(&at, ""));
                }
                Some(Ok((event, span))) => {
                    let structure = matches!(
                        event,
                        Event::StreamStart
                            | Event::StreamEnd
                            | Event::DocumentStart(..)
                            | Event::DocumentEnd
                            | Event::SequenceEnd
                            | Event::MappingEnd
                    );
                    if structure || event.is_node() {
                        return Ok((event, origin(span.start.line(), span.start.col() + 1)));
                    }
                }
            }
        }
    }

    fn count(&mut self, nodes: usize, origin: &Origin) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values (aliases count for what they stand for)");
            return Err(Problem::new(message).at(origin, ""));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, origin: Origin, depth: usize) -> Result<Node, Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::new(format!("nested deeper than {MAX_DEPTH} levels")).at(&origin, ""));
        }
        let before = self.nodes;
        self.count(1, &origin)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                // A tag such as `!!str` says that this is text; other types follow from what is asked for.
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let style = if plain { Style::Plain } else { Style::Quoted };
                (Node::scalar(origin, text, style), anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, origin) => list.push(self.node(event, origin, depth + 1)?),
                    }
                }
                (Node::new(origin, Value::List(list)), anchor)
            }
            Event::MappingStart(_, anchor, _) => (self.map(origin, depth)?, anchor),
            Event::Alias(anchor) => {
                // The parser has checked that the anchor exists; it can still be one that is not finished.
                let Some((mut node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(Problem::new("an alias stands within what it stands for").at(&origin, ""));
                };
                self.count(size, &origin)?;
                node.origin = origin;
                return Ok(node);
            }
            _ => return Err(Problem::new("a value is expected here").at(&origin, "")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn map(&mut self, origin: Origin, depth: usize) -> Result<Node, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Origin> = HashMap::new();
        loop {
            let (key, at) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Node::new(origin, Value::Map(entries))),
                (Event::Scalar(key, ..), at) => (key.into_owned(), at),
                (_, at) => {
                    return Err(
                        Problem::new("a key is plain text, not a list, a map or an alias").at(&at, "")
                    );
                }
            };
            if let Some(first) = seen.insert(key.clone(), at.clone()) {
                let message = format!("the key `{key}` is given twice, first at {first}; keep one");
                return Err(Problem::new(message).at(&at, ""));
            }
            let (event, value_at) = self.next()?;
            let node = self.node(event, value_at, depth + 1)?;
            entries.push(Entry { key, origin: at, node });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        parse("f.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn values_know_their_line_and_column() {
        let node = parse("f.yaml", "# comment\na:\n  b: [1, two]\n").unwrap();
        let Value::Map(entries) = &node.value else { panic!("{node:?}") };
        let Value::Map(inner) = &entries[0].node.value else { panic!("{node:?}") };
        let Value::List(list) = &inner[0].node.value else { panic!("{node:?}") };
        assert_eq!(inner[0].origin.to_string(), "f.yaml:3:3");
        assert_eq!(list[1].origin.to_string(), "f.yaml:3:10");
    }

    #[test]
    fn an_empty_file_is_an_empty_map_and_an_alias_a_copy() {
        for text in ["", "# nothing\n", "---\n", "~"] {
            assert_eq!(parse("f", text).unwrap().value, Value::Map(Vec::new()), "{text:?}");
        }
        let node = parse("f", "a: &x [1]\nb: *x\n").unwrap();
        let Value::Map(entries) = &node.value else { panic!("{node:?}") };
        assert_eq!(entries[0].node.value, entries[1].node.value);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        assert!(
            error("a: 1\nb: 2\na: 3\n")
                .starts_with("f.yaml:3:1: the key `a` is given twice, first at f.yaml:1:1")
        );
        assert!(error("a: [1\n").contains("f.yaml:"));
        assert!(error("? [a]\n: 1\n").contains("a key is plain text"));
        assert!(error("a: 1\n---\nb: 2\n").contains("a second document"));
        assert!(error("a: &x [*x]\n").contains("an alias stands within"));
    }

    #[test]
    fn bombs_are_refused() {
        assert!(error(&"[".repeat(100_000)).contains("f.yaml"));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            let all = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{all}]\n"));
        }
        assert!(error(&bomb).contains("more than 100000 values"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[-a-c:#&*!|>'\"{}\\[\\], \n\t?%]{0,60}") {
            let _ = parse("f", &text);
        }
    }
}
