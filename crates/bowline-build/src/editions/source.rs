//! The text of a file of edition 2023 in the form of proto3, every line where it was.
//!
//! Three things differ for the parser: the first statement, `default` (which proto3 forbids, so it goes
//! by as an option [`DEFAULT`] that no file can write), and `reserved` names, which had quotes.

use std::ops::Range;

/// What `default` is called on its way through the parser.
pub(super) const DEFAULT: &str = "bowline__default";

/// The edition a file states, if that is what it begins with.
pub(super) fn edition(text: &str) -> Option<&str> {
    let header = header(text)?;
    text.get(header.value).map(|value| value.trim_matches(['"', '\'']))
}

/// The line of the `edition` statement, one-based.
pub(super) fn line_of_edition(text: &str) -> usize {
    let start = header(text).map_or(0, |header| header.keyword.start);
    text[..start].matches('\n').count() + 1
}

/// The same file as proto3. Only columns change.
pub(super) fn as_proto3(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut copied = 0;
    let mut replace = |range: Range<usize>, by: &str| {
        out.push_str(&text[copied..range.start]);
        out.push_str(by);
        copied = range.end;
    };
    if let Some(header) = header(text) {
        replace(header.keyword, "syntax");
        replace(header.value, "\"proto3\"");
    }
    let tokens: Vec<Range<usize>> = Tokens { text, at: 0 }.collect();
    let at = |index: usize| tokens.get(index).map_or("", |token| &text[token.clone()]);
    let mut reserved = false;
    for (index, token) in tokens.iter().enumerate() {
        let before = if index == 0 { ";" } else { at(index - 1) };
        match at(index) {
            "reserved" if matches!(before, ";" | "{" | "}") => reserved = true,
            ";" => reserved = false,
            "default" if matches!(before, "[" | ",") && at(index + 1) == "=" => {
                replace(token.clone(), DEFAULT)
            }
            name if reserved && is_name(name) && !matches!(name, "to" | "max") => {
                replace(token.clone(), &format!("\"{name}\""));
            }
            _ => {}
        }
    }
    out.push_str(&text[copied..]);
    out
}

/// `edition = "..."`: where the keyword and the value stand.
struct Header {
    keyword: Range<usize>,
    value: Range<usize>,
}

fn header(text: &str) -> Option<Header> {
    let mut tokens = Tokens { text, at: 0 };
    let keyword = tokens.next().filter(|token| &text[token.clone()] == "edition")?;
    tokens.next().filter(|token| &text[token.clone()] == "=")?;
    Some(Header { keyword, value: tokens.next()? })
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// Words, strings and single signs; comments and spaces are passed over.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Tokens<'_> {
    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start().len();
            let comment = &rest[blank..];
            let length = if comment.starts_with("//") {
                comment.find('\n').unwrap_or(comment.len())
            } else if comment.starts_with("/*") {
                comment.find("*/").map_or(comment.len(), |end| end + 2)
            } else {
                0
            };
            self.at += blank + length;
            if blank + length == 0 {
                return;
            }
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        self.skip_blank();
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        let is_word = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
        let length = match first {
            '"' | '\'' => string_length(rest, first),
            first if is_word(first) => rest.find(|sign| !is_word(sign)).unwrap_or(rest.len()),
            first => first.len_utf8(),
        };
        let start = self.at;
        self.at += length;
        Some(start..self.at)
    }
}

/// The length of a string literal, quotes included.
fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            sign if sign == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edition_is_the_first_statement() {
        assert_eq!(edition("// edition = \"1\"\n/* a */ edition = '2023';"), Some("2023"));
        assert_eq!(edition("syntax = \"proto3\";\nmessage edition {}"), None);
        assert_eq!(line_of_edition("\n\nedition = \"2023\";"), 3);
    }

    #[test]
    fn only_what_the_parser_would_refuse_is_changed() {
        let text = "edition = \"2023\";\nmessage A {\n  reserved a, b; reserved 1 to max;\n  \
                    int32 default = 1 [default = 7, json_name = \"default = 1\"]; // default = 2\n}\n";
        let expected = "syntax = \"proto3\";\nmessage A {\n  reserved \"a\", \"b\"; reserved 1 to max;\n  \
                    int32 default = 1 [bowline__default = 7, json_name = \"default = 1\"]; // default = 2\n}\n";
        assert_eq!(as_proto3(text), expected);
    }
}
