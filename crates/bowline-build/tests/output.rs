//! What is generated, looked at as syntax and as descriptors, without compiling it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod support;

use std::process::Command;

use buffa::Message as _;
use buffa_codegen::generated::descriptor::feature_set::{EnumType, FieldPresence, MessageEncoding};
use buffa_codegen::generated::descriptor::{FileDescriptorProto, FileDescriptorSet};
use quote::ToTokens as _;
use support::{Project, module};

const CATALOG: &str = include_str!("protos/catalog.proto");
const MONEY: &str = include_str!("protos/money.proto");
const MODERN: &str = include_str!("protos/modern.proto");

fn shop() -> Project {
    let project = Project::new(&[
        ("shop/catalog/v1/catalog.proto", CATALOG),
        ("shop/money/v1/money.proto", MONEY),
        ("shop/modern/v1/modern.proto", MODERN),
    ]);
    project.generate(&["shop/catalog/v1/catalog.proto", "shop/modern/v1/modern.proto"]).unwrap();
    project
}

/// The tokens of a named item, without spaces.
fn item(items: &[syn::Item], name: &str) -> String {
    let found = items.iter().find(|item| match item {
        syn::Item::Static(item) => item.ident == name,
        syn::Item::Fn(item) => item.sig.ident == name,
        syn::Item::Trait(item) => item.ident == name,
        syn::Item::Struct(item) => item.ident == name,
        syn::Item::Const(item) => item.ident == name,
        _ => false,
    });
    found.unwrap_or_else(|| panic!("no item {name}")).to_token_stream().to_string().replace(' ', "")
}

fn files(project: &Project) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(project.out().join("bowline"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn descriptors(project: &Project) -> Vec<FileDescriptorProto> {
    let bytes = std::fs::read(project.out().join("bowline/descriptors.binpb")).unwrap();
    FileDescriptorSet::decode_from_slice(&bytes).unwrap().file
}

#[test]
fn the_method_table_says_what_the_proto_says() {
    let project = shop();
    let file = project.package("shop.catalog.v1");
    let methods = module(&file.items, &["catalog_service", "methods"]);
    let get_item = item(methods, "GET_ITEM");
    for part in [
        "name:\"GetItem\"",
        "path:\"/shop.catalog.v1.CatalogService/GetItem\"",
        "MethodKind::Unary",
        "Idempotency::NoSideEffects",
        "input:\"shop.catalog.v1.GetItemRequest\"",
        "output:\"shop.catalog.v1.Item\"",
        "verb:\"GET\",pattern:\"/v1/items/{id}\",body:\"\",response_body:\"\"",
        "verb:\"GET\",pattern:\"/v1/shelves/{shelf.name=shelves/*}/items/{id}\",body:\"\",response_body:\"price\"",
        "verb:\"HEAD\",pattern:\"/v1/items/{id}\"",
    ] {
        assert!(get_item.contains(part), "{part} in {get_item}");
    }
    assert!(item(methods, "LIST").contains("MethodKind::ServerStreaming"));
    assert!(item(methods, "UPLOAD").contains("MethodKind::ClientStreaming"));
    assert!(item(methods, "UPLOAD").contains("verb:\"POST\",pattern:\"/v1/items:upload\",body:\"*\""));
    assert!(item(methods, "CHAT").contains("MethodKind::BidiStreaming"));
    assert!(item(methods, "CHAT").contains("Idempotency::Unknown"));
    assert!(item(methods, "CHAT").contains("http:&[]"));
}

#[test]
fn comments_of_the_proto_are_docs_and_no_doctests() {
    let project = shop();
    let path = project.out().join("bowline/shop.catalog.v1.rs");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("/// Finds one item."));
    assert!(text.contains("///   let indented = \"is no doctest\";"), "indented by less than a code block");
}

#[test]
fn an_error_enum_becomes_a_constructor_and_a_question_per_reason() {
    let project = shop();
    let file = project.package("shop.catalog.v1");
    let errors = module(&file.items, &["catalog_error"]);
    assert!(item(errors, "DOMAIN").contains("\"shop.catalog.v1\""));
    let not_found = item(errors, "item_not_found");
    assert!(not_found.contains("Code::NotFound,\"Thereisnosuchitem\""), "{not_found}");
    assert!(not_found.contains("with_reason(\"ITEM_NOT_FOUND\")"), "{not_found}");
    let sold_out = item(errors, "sold_out");
    assert!(sold_out.contains("Code::FailedPrecondition,\"soldout\""), "{sold_out}");
    assert!(sold_out.contains("with_reason(\"CATALOG_ERROR_SOLD_OUT\")"), "{sold_out}");
    assert!(
        item(errors, "r#type").contains("Code::Internal,\"type\""),
        "the default code, the reason in words"
    );
    assert!(item(errors, "is_sold_out").contains("matches(DOMAIN,\"CATALOG_ERROR_SOLD_OUT\")"));
    let functions = errors.iter().filter(|item| matches!(item, syn::Item::Fn(_))).count();
    assert_eq!(functions, 6, "the zero value is no reason");
}

#[test]
fn imports_become_code_where_a_listed_file_needs_their_types() {
    let project = shop();
    let expected =
        ["descriptors.binpb", "google.api.rs", "shop.catalog.v1.rs", "shop.modern.v1.rs", "shop.money.v1.rs"];
    assert_eq!(files(&project), expected);
    let api = project.package("google.api");
    assert!(item(&api.items, "HttpBody").contains("content_type"));
    let rule =
        api.items.iter().any(|item| matches!(item, syn::Item::Struct(item) if item.ident == "HttpRule"));
    assert!(!rule, "options are read, not generated");
}

#[test]
fn a_second_run_leaves_nothing_of_the_first() {
    let project = shop();
    project.generate(&["shop/money/v1/money.proto"]).unwrap();
    assert_eq!(files(&project), ["descriptors.binpb", "shop.money.v1.rs"]);
}

#[test]
fn the_embedded_descriptors_are_complete_and_without_comments() {
    let files = descriptors(&shop());
    let names: Vec<&str> = files.iter().filter_map(|file| file.name.as_deref()).collect();
    for name in ["google/protobuf/descriptor.proto", "google/api/http.proto", "shop/money/v1/money.proto"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(files.iter().all(|file| file.source_code_info.is_unset()));
    let service = files
        .iter()
        .find_map(|file| file.service.iter().find(|s| s.name.as_deref() == Some("CatalogService")));
    let options = &service.unwrap().method[0].options.__buffa_unknown_fields;
    assert!(options.iter().any(|field| field.number == 72_295_728), "google.api.http is kept");
}

#[test]
fn an_edition_keeps_its_features_and_defaults() {
    let project = shop();
    let files = descriptors(&project);
    let file = files.iter().find(|file| file.package.as_deref() == Some("shop.modern.v1")).unwrap();
    assert_eq!(file.syntax.as_deref(), Some("editions"));
    assert_eq!(file.options.features.enum_type, Some(EnumType::CLOSED));
    assert_eq!(file.enum_type[1].options.features.enum_type, Some(EnumType::OPEN));
    let order = &file.message_type[0];
    assert_eq!(order.reserved_name, ["old_name", "older_name"]);
    assert_eq!(order.field[0].options.features.field_presence, Some(FieldPresence::IMPLICIT));
    assert_eq!(order.field[7].options.features.message_encoding, Some(MessageEncoding::DELIMITED));
    let defaults: Vec<&str> = order.field.iter().filter_map(|field| field.default_value.as_deref()).collect();
    assert_eq!(defaults, ["-7", "none, \"default = 1\"", "\\001a", "1.5", "HIGH"]);

    let generated = item(&project.package("shop.modern.v1").items, "Order");
    assert!(generated.contains("pubid:::bowline_rpc::codegen::buffa::alloc::string::String"), "{generated}");
    assert!(generated.contains("pubamount:::core::option::Option<i32>"), "{generated}");
}

#[test]
fn a_file_in_the_include_roots_wins_over_the_bundled_one() {
    let body = "syntax = \"proto3\";\npackage google.api;\nmessage HttpBody {\n  string mine = 1;\n}\n";
    let user = "syntax = \"proto3\";\nimport \"google/api/httpbody.proto\";\nmessage A {\n  google.api.HttpBody b = 1;\n}\n";
    let project = Project::new(&[("google/api/httpbody.proto", body), ("a.proto", user)]);
    project.generate(&["a.proto"]).unwrap();
    assert!(item(&project.package("google.api").items, "HttpBody").contains("pubmine:"));
}

#[test]
fn the_runtime_is_the_facades_unless_told_otherwise() {
    let project = Project::new(&[("a.proto", MONEY)]);
    let config = bowline_build::Config::new().protos([project.proto("a.proto")]);
    config.includes([project.dir.path().join("proto")]).out_dir(project.out()).compile().unwrap();
    let text = std::fs::read_to_string(project.out().join("bowline/shop.money.v1.rs")).unwrap();
    assert!(text.contains("#[serde(crate = \"::bowline::rpc::codegen::serde\")]"));
    assert!(!text.contains("::bowline_rpc"));
}

#[test]
fn cargo_is_told_of_every_file_that_was_read() {
    let project =
        Project::new(&[("shop/catalog/v1/catalog.proto", CATALOG), ("shop/money/v1/money.proto", MONEY)]);
    std::fs::create_dir(project.out()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "as_a_build_script", "--ignored", "--nocapture"])
        .current_dir(project.dir.path())
        .env("OUT_DIR", project.out())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let mut told: Vec<&str> =
        said.lines().filter_map(|line| line.split("cargo:rerun-if-changed=").nth(1)).collect();
    told.sort_unstable();
    assert_eq!(told, ["proto/shop/catalog/v1/catalog.proto", "proto/shop/money/v1/money.proto"]);
    assert!(project.out().join("bowline.rs").is_file());
}

#[test]
#[ignore = "the other half of cargo_is_told_of_every_file_that_was_read, which runs it with OUT_DIR set"]
fn as_a_build_script() {
    bowline_build::compile(["./proto/shop/catalog/v1/catalog.proto"], ["proto"]).unwrap();
}
