//! The module of an error enum: one constructor and one question per reason.

use buffa_codegen::idents::make_field_ident;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::Runtime;
use super::docs::{docs, first_line};
use crate::codes;
use crate::schema::{ErrorEnum, Reason};

/// The module of `errors`, to stand in the module of its package.
pub(crate) fn error_enum(errors: &ErrorEnum, runtime: &Runtime) -> TokenStream {
    let codegen = runtime.codegen();
    let module = make_field_ident(&errors.module);
    let domain = &errors.package;
    let about = docs(&errors.docs, &format!("The errors of `{}`.", errors.name));
    let reasons = errors.reasons.iter().map(|reason| one(reason, errors.default_code, codegen));
    quote! {
        #about
        pub mod #module {
            /// The domain of these errors: whoever reads one knows whose reason it is.
            pub const DOMAIN: &str = #domain;
            #(#reasons)*
        }
    }
}

fn one(reason: &Reason, default_code: Option<i32>, codegen: &TokenStream) -> TokenStream {
    let build = make_field_ident(&reason.rust_name);
    let ask = format_ident!("is_{}", reason.rust_name);
    let name = &reason.name;
    let code = reason.spec.as_ref().and_then(|spec| spec.code).or(default_code);
    // Checked before: an error enum without a usable code does not get here.
    let code = format_ident!("{}", code.and_then(codes::rust_name).unwrap_or("Unknown"));
    let message = message(reason);
    let about_build = docs(&reason.docs, &format!("`{name}`"));
    let about_ask = format!(" Whether `err` is `{name}`, from whichever service it came.");
    quote! {
        #about_build
        pub fn #build() -> #codegen::Error {
            #codegen::Error::new(#codegen::Code::#code, #message).with_reason(#name).with_domain(DOMAIN)
        }
        #[doc = #about_ask]
        pub fn #ask(err: &#codegen::Error) -> bool {
            err.matches(DOMAIN, #name)
        }
    }
}

/// The message given in the option, else the comment's first line, else the reason in words.
fn message(reason: &Reason) -> String {
    let given = reason.spec.as_ref().map(|spec| spec.message.as_str()).unwrap_or_default();
    let comment = first_line(&reason.docs);
    match (given, comment) {
        ("", "") => reason.rust_name.replace('_', " "),
        ("", comment) => comment.to_owned(),
        (given, _) => given.to_owned(),
    }
}
