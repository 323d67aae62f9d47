//! The one dependency of generated code, and how everything else is reached through it.
//!
//! buffa writes `::buffa::Message`, `::serde::Serialize` and the like, which would make every user
//! depend on buffa and serde directly, at the right versions. Instead each such path is rewritten to
//! `<runtime>::codegen::buffa::Message`, where `<runtime>` is `::bowline::rpc` unless
//! [`Config::runtime`](crate::Config::runtime) says otherwise. Tokens are rewritten, never text: a
//! string or a comment that mentions `::buffa` stays as it is. The one exception is `#[serde(...)]`,
//! which takes paths as strings.
//!
//! # What `<runtime>::codegen` has to offer
//!
//! Crates, re-exported under their own names: `buffa` (feature `json`), `buffa_types` (`json`), `serde`
//! (`derive`), `serde_json`; `buffa_descriptor` when a `.proto` file that defines extensions of
//! descriptor options is generated. `bytes` is reached as `buffa::bytes`.
//!
//! For services, signatures only:
//!
//! ```ignore
//! pub struct Context;
//! pub struct Error;
//! pub type Result<T, E = Error> = core::result::Result<T, E>;
//! pub struct Streaming<T>(..);                       // Send + 'static for messages
//! pub enum MethodKind { Unary, ServerStreaming, ClientStreaming, BidiStreaming }
//! pub enum Idempotency { Unknown, NoSideEffects, Idempotent }
//! pub struct HttpRule {
//!     pub verb: &'static str, pub pattern: &'static str,
//!     pub body: &'static str, pub response_body: &'static str,
//! }
//! pub struct MethodDef {
//!     pub service: &'static str, pub name: &'static str, pub path: &'static str,
//!     pub kind: MethodKind, pub idempotency: Idempotency,
//!     pub input: &'static str, pub output: &'static str, pub http: &'static [HttpRule],
//! }
//! pub struct ServiceDef;
//! impl ServiceDef {
//!     pub fn new(name: &'static str, descriptors: &'static [u8]) -> Self;
//!     pub fn unary<I, O, F, Fut>(self, method: &'static MethodDef, handler: F) -> Self
//!     where F: Fn(Context, I) -> Fut + Send + Sync + 'static, Fut: Future<Output = Result<O>> + Send + 'static;
//!     // server_streaming: I -> Streaming<O>; client_streaming: Streaming<I> -> O;
//!     // bidi_streaming: Streaming<I> -> Streaming<O>
//! }
//! pub struct Caller;                                  // Clone + Debug
//! impl Caller {
//!     pub async fn unary<I, O>(&self, cx: &Context, method: &'static MethodDef, req: I) -> Result<O>;
//!     pub async fn server_streaming<I, O>(&self, .., req: I) -> Result<Streaming<O>>;
//!     pub async fn client_streaming<I, O>(&self, .., req: Streaming<I>) -> Result<O>;
//!     pub async fn bidi_streaming<I, O>(&self, .., req: Streaming<I>) -> Result<Streaming<O>>;
//! }
//! ```
//!
//! For error enums: `Code` with `google.rpc.Code`'s names in upper camel case (`Canceled` with one l)
//! and `Error::new(Code, &'static str)`, `Error::with_reason(self, &'static str)`,
//! `Error::with_domain(self, &'static str)`, `Error::matches(&self, domain: &str, reason: &str) -> bool`.

use proc_macro2::{Delimiter, Group, Literal, Spacing, TokenStream, TokenTree};
use quote::{ToTokens, quote};

use crate::error::Error;

/// The crates buffa's output names; all are reached through the runtime.
const CRATES: &[&str] = &["buffa", "buffa_types", "buffa_descriptor", "serde", "serde_json", "bytes"];

/// The path of the runtime, ready for generated code.
pub(crate) struct Runtime {
    /// `<runtime>::codegen`
    codegen: TokenStream,
    /// The same as text without spaces, for paths in strings.
    text: String,
}

impl Runtime {
    /// `path` as given to `Config::runtime`, such as `::bowline_rpc` or `crate::rpc`.
    ///
    /// A path that starts with the name of a crate means the crate, whatever modules the packages make.
    pub(crate) fn new(path: &str) -> Result<Self, Error> {
        let refused = || {
            Error::new(format!(
                "runtime {path:?} is no path from a crate's root; write it like \"::bowline_rpc\" or \"crate::rpc\""
            ))
        };
        let mut parsed: syn::Path = syn::parse_str(path).map_err(|_| refused())?;
        let first = parsed.segments.first().map(|segment| segment.ident.to_string()).unwrap_or_default();
        match first.as_str() {
            "self" | "super" | "Self" => return Err(refused()),
            "crate" => {}
            _ => parsed.leading_colon = Some(Default::default()),
        }
        let text = format!("{}::codegen", parsed.to_token_stream().to_string().replace(' ', ""));
        Ok(Self { codegen: quote!(#parsed::codegen), text })
    }

    /// `<runtime>::codegen`.
    pub(crate) fn codegen(&self) -> &TokenStream {
        &self.codegen
    }

    /// Rewrites every absolute path into one of [`CRATES`].
    pub(crate) fn rewrite(&self, tokens: TokenStream) -> TokenStream {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut out = TokenStream::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if self.is_foreign_path(&tokens, at) {
                out.extend(self.codegen.clone());
                out.extend(quote!(::));
                at += 2;
                continue;
            }
            match token {
                TokenTree::Group(group) => {
                    let inner = self.rewrite_group(&tokens, at, group);
                    out.extend([TokenTree::Group(Group::new(group.delimiter(), inner))]);
                    if group.delimiter() == Delimiter::Bracket && derives_serde(&group.stream()) {
                        let serde = format!("{}::serde", self.text);
                        out.extend(quote!(#[serde(crate = #serde)]));
                    }
                }
                other => out.extend([other.clone()]),
            }
            at += 1;
        }
        out
    }

    /// Whether `tokens[at..]` starts `::krate` for one of [`CRATES`] and does not continue a path.
    fn is_foreign_path(&self, tokens: &[TokenTree], at: usize) -> bool {
        let (Some(first), Some(second)) = (tokens.get(at), tokens.get(at + 1)) else { return false };
        if !is_punct(first, ':', Spacing::Joint) || !is_punct(second, ':', Spacing::Alone) {
            return false;
        }
        let Some(TokenTree::Ident(krate)) = tokens.get(at + 2) else { return false };
        CRATES.iter().any(|name| krate == name) && !continues_path(&tokens[..at])
    }

    /// The inside of a group; that of `#[serde(...)]` has its paths in strings.
    fn rewrite_group(&self, before: &[TokenTree], at: usize, group: &Group) -> TokenStream {
        let head = at.checked_sub(1).and_then(|at| before.get(at));
        let is_serde = matches!(head, Some(TokenTree::Ident(ident)) if ident == "serde");
        if is_serde && group.delimiter() == Delimiter::Parenthesis {
            return group.stream().into_iter().map(|token| self.rewrite_serde(token)).collect();
        }
        self.rewrite(group.stream())
    }

    fn rewrite_serde(&self, token: TokenTree) -> TokenTree {
        match &token {
            TokenTree::Literal(literal) => self.rewrite_literal(literal).map_or(token, TokenTree::Literal),
            TokenTree::Group(group) => {
                let inner = group.stream().into_iter().map(|token| self.rewrite_serde(token)).collect();
                TokenTree::Group(Group::new(group.delimiter(), inner))
            }
            _ => token,
        }
    }

    fn rewrite_literal(&self, literal: &Literal) -> Option<Literal> {
        let text = literal.to_string();
        let path = text.strip_prefix("\"::")?.strip_suffix('"')?;
        let (krate, _) = path.split_once("::")?;
        CRATES.contains(&krate).then(|| Literal::string(&format!("{}::{path}", self.text)))
    }
}

fn is_punct(token: &TokenTree, sign: char, spacing: Spacing) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign && punct.spacing() == spacing)
}

/// Whether a path ends right before, so that `::` goes on with it: after a name that is neither a keyword
/// nor a lifetime, or after the `>` that closes a type's generics.
fn continues_path(before: &[TokenTree]) -> bool {
    match before.split_last() {
        Some((TokenTree::Ident(ident), rest)) => {
            let is_lifetime = rest.last().is_some_and(|token| is_punct(token, '\'', Spacing::Joint));
            !is_lifetime && !is_plain_keyword(&ident.to_string())
        }
        Some((TokenTree::Punct(last), rest)) if last.as_char() == '>' => closes_type(rest),
        _ => false,
    }
}

/// A keyword that cannot stand within a path.
fn is_plain_keyword(name: &str) -> bool {
    !matches!(name, "super" | "self" | "crate" | "Self") && buffa_codegen::idents::is_rust_keyword(name)
}

/// Whether the `>` after `before` closes generics that belong to a path: not an arrow's head, and not
/// the generics of `impl<..>` or `for<..>`.
fn closes_type(before: &[TokenTree]) -> bool {
    if before.last().is_some_and(is_arrow_tail) {
        return false;
    }
    let mut depth = 1usize;
    for at in (0..before.len()).rev() {
        match &before[at] {
            TokenTree::Punct(sign) if sign.as_char() == '<' => depth -= 1,
            TokenTree::Punct(sign)
                if sign.as_char() == '>' && !(at > 0 && is_arrow_tail(&before[at - 1])) =>
            {
                depth += 1;
            }
            _ => {}
        }
        if depth == 0 {
            let head = at.checked_sub(1).map(|at| &before[at]);
            return !matches!(head, Some(TokenTree::Ident(ident)) if ident == "impl" || ident == "for");
        }
    }
    // Nothing opened it: a comparison.
    false
}

fn is_arrow_tail(token: &TokenTree) -> bool {
    is_punct(token, '-', Spacing::Joint) || is_punct(token, '=', Spacing::Joint)
}

/// Whether the inside of an attribute is `derive(..., ::serde::..., ...)`.
fn derives_serde(attribute: &TokenStream) -> bool {
    let mut tokens = attribute.clone().into_iter();
    let is_derive = matches!(tokens.next(), Some(TokenTree::Ident(ident)) if ident == "derive");
    let Some(TokenTree::Group(list)) = tokens.next() else { return false };
    is_derive
        && list.stream().into_iter().any(|token| matches!(token, TokenTree::Ident(ident) if ident == "serde"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(code: &str) -> String {
        let runtime = Runtime::new("rt").expect("a path");
        let tokens: TokenStream = code.parse().expect("tokens");
        runtime.rewrite(tokens).to_string().replace(' ', "")
    }

    #[test]
    fn absolute_paths_into_known_crates_are_rewritten() {
        for (code, expected) in [
            ("::buffa::Message", "::rt::codegen::buffa::Message"),
            ("&'a ::buffa::Map<::bytes::Bytes>", "&'a::rt::codegen::buffa::Map<::rt::codegen::bytes::Bytes>"),
            (
                "impl<'de> ::serde::Deserialize<'de> for A",
                "impl<'de>::rt::codegen::serde::Deserialize<'de>forA",
            ),
            ("fn a() -> ::buffa::A", "fna()->::rt::codegen::buffa::A"),
            ("impl Fn(A<B>) -> ::buffa::A", "implFn(A<B>)->::rt::codegen::buffa::A"),
            ("match x { A => ::buffa::f(), }", "matchx{A=>::rt::codegen::buffa::f(),}"),
            ("return ::buffa::A", "return::rt::codegen::buffa::A"),
        ] {
            assert_eq!(rewritten(code), expected, "{code}");
        }
    }

    #[test]
    fn all_else_stays() {
        for code in [
            "super::buffa::A",
            "self::serde::A",
            "shop::buffa::A",
            "r#type::buffa::A",
            "<A as B>::buffa::C",
            "Vec::<u8>::bytes::C",
            "::core::option::Option",
            "\"::buffa::Message\"",
            "#[doc = \"::buffa::Message\"]",
        ] {
            assert_eq!(rewritten(code), code.replace(' ', ""), "{code}");
        }
    }

    #[test]
    fn serde_is_told_where_it_is() {
        assert_eq!(
            rewritten("#[derive(Clone, ::serde::Serialize)] struct A;"),
            "#[derive(Clone,::rt::codegen::serde::Serialize)]#[serde(crate=\"::rt::codegen::serde\")]structA;"
        );
        assert_eq!(
            rewritten("#[serde(rename = \"buffa\", with = \"::buffa::json::int\", default = \"::core::x\")]"),
            "#[serde(rename=\"buffa\",with=\"::rt::codegen::buffa::json::int\",default=\"::core::x\")]"
        );
    }

    #[test]
    fn a_runtime_is_a_path_from_a_root() {
        assert!(Runtime::new("super::rpc").is_err());
        assert!(Runtime::new("two words").is_err());
        assert_eq!(
            Runtime::new("crate::rpc").map(|runtime| runtime.text).ok().as_deref(),
            Some("crate::rpc::codegen")
        );
    }
}
