//! Comments of `.proto` files as doc comments.

use proc_macro2::TokenStream;
use quote::quote;

/// `#[doc]` attributes for a comment, or for `fallback` where there is none.
///
/// A line indented by four or more would be a code block to rustdoc and run as a test; comments mean
/// no such thing, so the indentation is taken down. Fences are marked as text for the same reason.
pub(crate) fn docs(comment: &str, fallback: &str) -> TokenStream {
    let comment = comment.trim();
    let text = if comment.is_empty() { fallback } else { comment };
    let mut fenced = false;
    let lines = text.lines().map(|line| {
        let line = line.trim_end();
        let bare = line.trim_start();
        if bare.starts_with("```") {
            fenced = !fenced;
            return if fenced { " ```text".to_owned() } else { " ```".to_owned() };
        }
        match (bare.is_empty(), fenced) {
            (true, _) => String::new(),
            (false, true) => format!(" {line}"),
            (false, false) => {
                format!(" {}{bare}", " ".repeat((line.len() - bare.len()).min(3).saturating_sub(1)))
            }
        }
    });
    let mut lines: Vec<String> = lines.collect();
    if fenced {
        lines.push(" ```".to_owned());
    }
    quote!(#(#[doc = #lines])*)
}

/// The first line of a comment, without the full stop.
pub(crate) fn first_line(comment: &str) -> &str {
    comment.trim().lines().next().unwrap_or_default().trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(comment: &str) -> Vec<String> {
        let tokens = docs(comment, "Fallback.");
        let Ok(item) = syn::parse2::<syn::ItemStruct>(quote!(#tokens struct A;)) else { return Vec::new() };
        let text = item.attrs.iter().filter_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(syn::MetaNameValue { value: syn::Expr::Lit(literal), .. }) => {
                Some(&literal.lit)
            }
            _ => None,
        });
        text.filter_map(|literal| match literal {
            syn::Lit::Str(text) => Some(text.value()),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn a_comment_becomes_docs_line_by_line() {
        assert_eq!(lines(" One.\n\n  - two\n"), [" One.", "", "  - two"]);
        assert_eq!(lines("  \n"), [" Fallback."]);
        assert_eq!(first_line(" There is none.\n More."), "There is none");
    }

    #[test]
    fn no_comment_becomes_a_doctest() {
        assert_eq!(lines("a\n        let x;"), [" a", "   let x;"]);
        assert_eq!(lines("```\nlet x;\n```"), [" ```text", " let x;", " ```"]);
        assert_eq!(lines("```rust\nlet x;"), [" ```text", " let x;", " ```"], "an open fence is closed");
    }
}
