//! The module of a service: the trait, the method table, the mount, the client.

use buffa_codegen::idents::make_field_ident;
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::docs::docs;
use super::{Resolver, Runtime};
use crate::error::Error;
use crate::names;
use crate::schema::{Idempotency, Method, Service};

/// What the parts of one rpc's code are made of.
struct Rpc<'a> {
    method: &'a Method,
    /// The Rust method.
    name: Ident,
    /// The static in `methods`.
    def: Ident,
    /// The builder and caller method: `unary`, `server_streaming`, ...
    kind: Ident,
    /// The variant of `MethodKind`.
    kind_variant: Ident,
    /// `Request` or `Streaming<Request>`.
    request: TokenStream,
    /// `Response` or `Streaming<Response>`.
    response: TokenStream,
    docs: TokenStream,
}

/// The module of `service`, to stand in the module of its package.
pub(crate) fn service(
    service: &Service,
    resolver: &Resolver<'_>,
    runtime: &Runtime,
) -> Result<TokenStream, Error> {
    let codegen = runtime.codegen();
    let rpcs = service.methods.iter().map(|method| rpc(method, &service.package, resolver, codegen));
    let rpcs: Vec<Rpc<'_>> = rpcs.collect::<Result<_, _>>()?;
    let module = make_field_ident(&service.module);
    let full_name = &service.full_name;
    let about = docs(&service.docs, &format!("The service `{full_name}`."));
    let (service_trait, methods) = (service_trait(service, &rpcs, codegen), methods(service, &rpcs, codegen));
    let (server, client) = (server(service, &rpcs, codegen), client(service, &rpcs, codegen));
    Ok(quote! {
        #about
        pub mod #module {
            /// The full name of the service.
            pub const NAME: &str = #full_name;
            #service_trait
            #methods
            #server
            #client
        }
    })
}

fn rpc<'a>(
    method: &'a Method,
    package: &str,
    resolver: &Resolver<'_>,
    codegen: &TokenStream,
) -> Result<Rpc<'a>, Error> {
    let (kind, kind_variant) = match (method.client_streaming, method.server_streaming) {
        (false, false) => ("unary", "Unary"),
        (false, true) => ("server_streaming", "ServerStreaming"),
        (true, false) => ("client_streaming", "ClientStreaming"),
        (true, true) => ("bidi_streaming", "BidiStreaming"),
    };
    let shape = |message: &str, streaming: bool| {
        let path = resolver.path(message, package)?;
        Ok(if streaming { quote!(#codegen::Streaming<#path>) } else { path })
    };
    Ok(Rpc {
        name: make_field_ident(&method.rust_name),
        def: format_ident!("{}", names::shouty(&method.name)),
        kind: format_ident!("{kind}"),
        kind_variant: format_ident!("{kind_variant}"),
        request: shape(&method.input, method.client_streaming)?,
        response: shape(&method.output, method.server_streaming)?,
        docs: docs(&method.docs, &format!("Calls `{}`.", method.name)),
        method,
    })
}

fn service_trait(service: &Service, rpcs: &[Rpc<'_>], codegen: &TokenStream) -> TokenStream {
    let about = format!(" What an implementation of `{}` answers.", service.full_name);
    let required = rpcs.iter().map(|Rpc { name, request, response, docs, .. }| {
        quote! {
            #docs
            fn #name(
                &self,
                cx: &#codegen::Context,
                req: #request,
            ) -> impl ::core::future::Future<Output = #codegen::Result<#response>> + ::core::marker::Send;
        }
    });
    let forwarded = rpcs.iter().map(|Rpc { name, request, response, .. }| {
        quote! {
            fn #name(
                &self,
                cx: &#codegen::Context,
                req: #request,
            ) -> impl ::core::future::Future<Output = #codegen::Result<#response>> + ::core::marker::Send {
                <T as Service>::#name(&**self, cx, req)
            }
        }
    });
    quote! {
        #[doc = #about]
        pub trait Service: ::core::marker::Send + ::core::marker::Sync + 'static {
            #(#required)*
        }
        impl<T: Service> Service for ::std::sync::Arc<T> {
            #(#forwarded)*
        }
    }
}

fn methods(service: &Service, rpcs: &[Rpc<'_>], codegen: &TokenStream) -> TokenStream {
    let full_name = &service.full_name;
    let statics = rpcs.iter().map(|rpc| {
        let (def, kind, method) = (&rpc.def, &rpc.kind_variant, rpc.method);
        let name = &method.name;
        let path = format!("/{full_name}/{name}");
        let about = format!(" `{path}`");
        let (input, output) = (method.input.trim_start_matches('.'), method.output.trim_start_matches('.'));
        let idempotency = match method.idempotency {
            Idempotency::Unknown => quote!(Unknown),
            Idempotency::NoSideEffects => quote!(NoSideEffects),
            Idempotency::Idempotent => quote!(Idempotent),
        };
        let http = method.http.iter().map(|rule| {
            let (verb, pattern, body, response_body) =
                (&rule.verb, &rule.pattern, &rule.body, &rule.response_body);
            quote! {
                #codegen::HttpRule {
                    verb: #verb,
                    pattern: #pattern,
                    body: #body,
                    response_body: #response_body,
                }
            }
        });
        quote! {
            #[doc = #about]
            pub static #def: #codegen::MethodDef = #codegen::MethodDef {
                service: super::NAME,
                name: #name,
                path: #path,
                kind: #codegen::MethodKind::#kind,
                idempotency: #codegen::Idempotency::#idempotency,
                input: #input,
                output: #output,
                http: &[#(#http),*],
            };
        }
    });
    let all = rpcs.iter().map(|rpc| &rpc.def);
    quote! {
        /// What is known of each method before a call.
        pub mod methods {
            #(#statics)*
        }
        /// Every method, in the order of the `.proto` file.
        pub static METHODS: &[&#codegen::MethodDef] = &[#(&methods::#all),*];
    }
}

fn server(service: &Service, rpcs: &[Rpc<'_>], codegen: &TokenStream) -> TokenStream {
    // One `super` leaves this module, one more leaves each segment of the package.
    let depth = if service.package.is_empty() { 0 } else { service.package.split('.').count() };
    let up = std::iter::repeat_n(quote!(super::), depth + 1);
    let routes = rpcs.iter().map(|Rpc { name, def, kind, request, .. }| {
        quote! {
            .#kind(&methods::#def, {
                let service = ::std::sync::Arc::clone(&service);
                move |cx: #codegen::Context, req: #request| {
                    let service = ::std::sync::Arc::clone(&service);
                    async move { <S as Service>::#name(&*service, &cx, req).await }
                }
            })
        }
    });
    let shared = if rpcs.is_empty() {
        quote!(let _ = service;)
    } else {
        quote!(let service = ::std::sync::Arc::new(service);)
    };
    let about = format!(" Mounts an implementation of `{}`.", service.full_name);
    quote! {
        #[doc = #about]
        pub fn server<S: Service>(service: S) -> #codegen::ServiceDef {
            #shared
            #codegen::ServiceDef::new(NAME, #(#up)*FILE_DESCRIPTOR_SET) #(#routes)*
        }
    }
}

fn client(service: &Service, rpcs: &[Rpc<'_>], codegen: &TokenStream) -> TokenStream {
    let calls = rpcs.iter().map(|rpc| {
        let Rpc { name, def, kind, request, response, docs, method, .. } = rpc;
        let deprecated = method.deprecated.then(|| quote!(#[deprecated]));
        let (request, given) = if method.client_streaming {
            (quote!(impl ::core::convert::Into<#request>), quote!(req.into()))
        } else {
            (request.clone(), quote!(req))
        };
        quote! {
            #docs
            ///
            /// # Errors
            ///
            /// What the service answers, or why it could not be reached.
            #deprecated
            pub async fn #name(&self, cx: &#codegen::Context, req: #request) -> #codegen::Result<#response> {
                self.caller.#kind(cx, &methods::#def, #given).await
            }
        }
    });
    let about = format!(" Calls `{}`.", service.full_name);
    quote! {
        #[doc = #about]
        #[derive(Clone, Debug)]
        pub struct Client {
            caller: #codegen::Caller,
        }
        impl Client {
            /// A client whose calls go through `caller`.
            pub fn new(caller: impl ::core::convert::Into<#codegen::Caller>) -> Self {
                Self { caller: caller.into() }
            }
            #(#calls)*
        }
    }
}
