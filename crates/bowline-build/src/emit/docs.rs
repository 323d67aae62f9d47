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
