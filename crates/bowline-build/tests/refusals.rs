//! What is wrong with a proto is told with file, line and mend.

mod support;

use support::{Project, refusal};

/// A file with one service; line 6 is the rpc.
fn rpc(rpc: &str) -> String {
    format!(
        "syntax = \"proto3\";\npackage shop;\nimport \"google/api/annotations.proto\";\n\nservice Shop {{\n  {rpc}\n}}\n\
         message Get {{ string id = 1; Shelf shelf = 2; repeated string tags = 3; map<string, string> map = 4; Empty none = 5; }}\n\
         message Shelf {{ string name = 1; }}\nmessage Empty {{}}\n"
    )
}

fn http(rule: &str) -> String {
    rpc(&format!("rpc GetItem(Get) returns (Shelf) {{ option (google.api.http) = {{ {rule} }}; }}"))
}

/// A file with one enum; line 5 is the enum, its values start at 6.
fn errors(values: &str) -> String {
    format!(
        "syntax = \"proto3\";\npackage shop;\nimport \"bowline/api/errors.proto\";\n\nenum ShopError {{\n{values}\n}}\n"
    )
}

fn all_say(cases: &[(String, &str)]) {
    for (text, expected) in cases {
        assert_eq!(refusal(text), *expected, "for\n{text}");
    }
}

#[test]
fn syntax_and_names_keep_the_place_the_compiler_gives() {
    let missing_import = refusal("syntax = \"proto3\";\nimport \"gone.proto\";\n");
    assert!(
        missing_import.starts_with("proto/a.proto:2:1: import 'gone.proto' not found in "),
        "{missing_import}"
    );
    assert!(missing_import.ends_with("with includes()"), "{missing_import}");
    all_say(&[
        (
            "syntax = \"proto3\";\nmessage A {\n  strin x = 1;\n}\n".to_owned(),
            "proto/a.proto:3:3: name 'strin' is not defined; declare it, or import the file that declares it",
        ),
        (
            "syntax = \"proto3\";\npackage a;\npackage b;\n".to_owned(),
            "proto/a.proto: multiple package names specified; keep one",
        ),
        (
            "syntax = \"proto3\";\nimport \"a.proto\";\n".to_owned(),
            "proto/a.proto: import cycle detected: a.proto -> a.proto; move what both need into a file of its own",
        ),
        (
            "syntax = \"proto3\";\nmessage A {\n  string x 1;\n}\n".to_owned(),
            "proto/a.proto:3:12: expected '=', but found '1'",
        ),
    ]);
}

#[test]
fn a_path_template_must_be_well_formed() {
    let says = |rule: &str, text: &str| (http(rule), format!("proto/a.proto:6: rpc GetItem: {text}"));
    let cases = [
        says("get: \"v1/x\"", "path \"v1/x\" does not start with a slash; write \"/v1/x\""),
        says("get: \"/v1/{id\"", "path \"/v1/{id\" has braces that do not match; write {field}"),
        says("get: \"/v1//x\"", "path \"/v1//x\" has an empty segment; remove the slash too many"),
        says("get: \"/v1/**/x\"", "path \"/v1/**/x\" goes on after **; let ** be the last segment"),
        says(
            "get: \"/v1/{id}/{id}\"",
            "path \"/v1/{id}/{id}\" has the variable {id} twice; keep one of them",
        ),
        says(
            "get: \"/v1/caf%C3%A9\"",
            "path \"/v1/caf%C3%A9\" has \"caf%C3%A9\", which never matches: paths are compared decoded; \
             write it decoded: \"café\"",
        ),
        says(
            "get: \"/v1/{id}:100%25\"",
            "path \"/v1/{id}:100%25\" has \"100%25\", which never matches: paths are compared decoded; \
             write it without the percent sign",
        ),
        says(
            "get: \"/v1/a b\"",
            "path \"/v1/a b\" has a segment \"a b\" that is neither a name, *, ** nor a whole {variable}; \
             a variable takes a segment to itself",
        ),
        says("body: \"*\"", "the http rule has no path; write one, as in get: \"/v1/...\""),
    ];
    for (text, expected) in &cases {
        assert_eq!(refusal(text), *expected);
    }
}

#[test]
fn a_path_variable_must_name_a_single_value_of_the_request() {
    let says = |rule: &str, text: &str| (http(rule), format!("proto/a.proto:6: rpc GetItem: {text}"));
    let cases = [
        says("get: \"/v1/{idd}\"", "path variable {idd} names no field of shop.Get; did you mean {id}?"),
        says(
            "get: \"/v1/{shelf.nam}\"",
            "path variable {shelf.nam} names no field of shop.Shelf; did you mean {shelf.name}?",
        ),
        says(
            "get: \"/v1/{whatever}\"",
            "path variable {whatever} names no field of shop.Get; it has id, shelf, tags, map, none",
        ),
        says(
            "get: \"/v1/{none.x}\"",
            "path variable {none.x} names no field of shop.Empty; add the field to shop.Empty",
        ),
        says(
            "get: \"/v1/{tags}\"",
            "path variable {tags} is a list: shop.Get.tags is repeated; use a single field, a path has one value for it",
        ),
        says(
            "get: \"/v1/{shelf}\"",
            "path variable {shelf} is a message: shop.Get.shelf is a shop.Shelf; \
             name a field within it, such as {shelf.name}",
        ),
        says(
            "get: \"/v1/{id.x}\"",
            "path variable {id.x} goes into shop.Get.id, which is no message; end the variable there",
        ),
    ];
    for (text, expected) in &cases {
        assert_eq!(refusal(text), *expected);
    }
}

#[test]
fn a_body_must_name_a_field_and_fit_the_verb() {
    let says = |rule: &str, text: &str| (http(rule), format!("proto/a.proto:6: rpc GetItem: {text}"));
    let cases = [
        says(
            "post: \"/v1\" body: \"shelv\"",
            "body \"shelv\" names no field of shop.Get; did you mean \"shelf\"?",
        ),
        says(
            "post: \"/v1\" body: \"x\"",
            "body \"x\" names no field of shop.Get; give the name of one of its fields or \"*\"",
        ),
        says(
            "get: \"/v1\" response_body: \"nme\"",
            "response_body \"nme\" names no field of shop.Shelf; did you mean \"name\"?",
        ),
        says(
            "get: \"/v1\" body: \"*\"",
            "GET has no body, but body is \"*\"; remove it (fields outside of the path are query parameters) or use post",
        ),
    ];
    for (text, expected) in &cases {
        assert_eq!(refusal(text), *expected);
    }
    let delete = Project::new(&[("a.proto", &http("delete: \"/v1/{id}\" body: \"shelf\""))]);
    delete.generate(&["a.proto"]).unwrap();
}

#[test]
fn a_stream_of_requests_needs_the_whole_body() {
    let whole = "a stream of requests comes in the body as a whole; set body: \"*\"";
    let cases = [
        ("post: \"/v1\"", whole),
        ("post: \"/v1\" body: \"shelf\"", whole),
        ("get: \"/v1\"", "GET has no body, but a stream of requests comes in one; use post with body: \"*\""),
        (
            "post: \"/v1/{id}\" body: \"*\"",
            "path variable {id} belongs to no single message of a stream of requests; \
             remove it from the path, each message has the field",
        ),
    ];
    for (rule, expected) in cases {
        let text = rpc(&format!(
            "rpc Put(stream Get) returns (Shelf) {{ option (google.api.http) = {{ {rule} }}; }}"
        ));
        assert_eq!(refusal(&text), format!("proto/a.proto:6: rpc Put: {expected}"));
    }
}

#[test]
fn additional_bindings_do_not_nest() {
    let text = http("get: \"/a\" additional_bindings { get: \"/b\" additional_bindings { get: \"/c\" } }");
    let expected = "proto/a.proto:6: rpc GetItem: additional_bindings stand within additional_bindings; \
                    move them up, beside the others of the method";
    assert_eq!(refusal(&text), expected);
}

#[test]
fn one_verb_and_path_belongs_to_one_method_across_files() {
    let one = http("get: \"/v1/{id}\"");
    let other =
        rpc("rpc Other(Shelf) returns (Shelf) { option (google.api.http) = { get: \"/v1/{name}\" }; }")
            .replace("package shop", "package other");
    let project = Project::new(&[("a.proto", &one), ("b.proto", &other)]);
    assert_eq!(
        project.refusal(&["a.proto", "b.proto"]),
        "proto/b.proto:6: rpc Other: GET /v1/{name} is taken as /v1/{id} by rpc GetItem at proto/a.proto:6; \
         change one of the two"
    );
}

#[test]
fn every_reason_needs_a_code_that_is_an_error() {
    all_say(&[
        (
            errors("NONE_UNSPECIFIED = 0;\nA = 1 [(bowline.api.error) = { code: NOT_FOUND }];\nB = 2;"),
            "proto/a.proto:8: B: has no code; write B = ... [(bowline.api.error) = { code: NOT_FOUND }], \
             or give enum ShopError an option (bowline.api.default_code)",
        ),
        (
            errors("NONE_UNSPECIFIED = 0;\nA = 1 [(bowline.api.error) = { code: OK }];"),
            "proto/a.proto:7: A: code OK is no error; take the one that tells what failed",
        ),
        (
            errors("option (bowline.api.default_code) = OK;\nNONE_UNSPECIFIED = 0;\nA = 1;"),
            "proto/a.proto:5: enum ShopError: default_code OK is no error; take another, such as INTERNAL",
        ),
        (
            errors("option (bowline.api.default_code) = ABORTED;\nA = 0;\nSHOP_ERROR_A = 1;"),
            "proto/a.proto:8: SHOP_ERROR_A: becomes the function a, as A at proto/a.proto:7 does; \
             rename one of the two",
        ),
    ]);
}

#[test]
fn names_that_become_one_in_rust_are_refused() {
    all_say(&[
        (
            rpc("rpc GetItem(Get) returns (Get);\n  rpc getItem(Get) returns (Get);"),
            "proto/a.proto:7: rpc getItem: becomes the method get_item, as rpc GetItem at proto/a.proto:6 does; \
             rename one of the two",
        ),
        (
            "syntax = \"proto3\";\nmessage Shop {\n  message In {}\n}\nservice SHOP {\n  rpc A(Shop) returns (Shop);\n}\n"
                .to_owned(),
            "proto/a.proto:5: service SHOP: becomes the module shop, as message Shop at proto/a.proto:2 does; \
             rename one of the two",
        ),
        (
            "syntax = \"proto3\";\nmessage HTTPGet {}\nmessage HttpGet {}\n".to_owned(),
            "proto/a.proto:3: message HttpGet: becomes the module http_get, as message HTTPGet at proto/a.proto:2 does; \
             rename one of the two",
        ),
        (
            "syntax = \"proto3\";\nmessage A {\n  message type {}\n  enum Self { X = 0; }\n}\n".to_owned(),
            "proto/a.proto:3: message type: is a keyword of Rust; rename it, as in Type\n\
             proto/a.proto:4: enum Self: is a keyword of Rust; rename it, as in SelfValue",
        ),
    ]);
    let text = "syntax = \"proto3\";\npackage shop;\nmessage A {}\nservice Sub { rpc A(A) returns (A); }\n";
    let sub = "syntax = \"proto3\";\npackage shop.sub;\nmessage B {}\n";
    assert_eq!(
        Project::new(&[("a.proto", text), ("b.proto", sub)]).refusal(&["a.proto", "b.proto"]),
        "proto/a.proto:4: service Sub: becomes the module sub, as package shop.sub does; rename one of the two"
    );
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_file() {
    let text = rpc("rpc A(Get) returns (Get) { option (google.api.http) = { get: \"/{x}\" }; }\n\
         rpc B(Get) returns (Get) { option (google.api.http) = { get: \"b\" }; }");
    let lines: Vec<String> = refusal(&text).lines().map(|line| line[..18].to_owned()).collect();
    assert_eq!(lines, ["proto/a.proto:6: r", "proto/a.proto:7: r"]);
}

#[test]
fn files_that_are_not_there_are_named() {
    let project = Project::new(&[("a.proto", "syntax = \"proto3\";\n")]);
    assert_eq!(
        project.refusal(&["b.proto"]),
        "proto/b.proto: no such file; correct the path given to protos() \
         (it is relative to the directory of Cargo.toml)"
    );
    assert!(project.refusal(&[]).starts_with("no .proto file is listed; name at least one"));
    let gone = project.config(&["a.proto"]).includes(["/nowhere"]).compile().unwrap_err().to_string();
    assert_eq!(gone, "/nowhere: no such directory; correct the path given to includes()");
    let outside = project.dir.path().join("outside.proto");
    std::fs::write(&outside, "syntax = \"proto3\";\n").unwrap();
    let outside = project.config(&["a.proto"]).protos([outside]).compile().unwrap_err().to_string();
    assert!(outside.contains("outside.proto: lies below none of the include roots ("), "{outside}");
    let runtime = project.config(&["a.proto"]).runtime("not a path").compile().unwrap_err().to_string();
    assert!(
        runtime.starts_with("runtime \"not a path\" is no path from a crate's root; write it like"),
        "{runtime}"
    );
}

#[test]
fn an_edition_is_2023_and_has_its_own_features_only() {
    let edition = |body: &str| format!("edition = \"2023\";\nmessage A {{\n  {body}\n}}\n");
    all_say(&[
        (
            "\nedition = \"2024\";\n".to_owned(),
            "proto/a.proto:2: edition \"2024\" is not supported; write edition = \"2023\"",
        ),
        (
            edition("string a = 1 [features.presence = IMPLICIT];"),
            "proto/a.proto:3: features.presence: is no feature; there are field_presence, enum_type, \
             repeated_field_encoding, utf8_validation, message_encoding, json_format",
        ),
        (
            edition("string a = 1 [features.field_presence = OPTIONAL];"),
            "proto/a.proto:3: features.field_presence: \"OPTIONAL\" is none of its values; \
             there are EXPLICIT, IMPLICIT, LEGACY_REQUIRED",
        ),
        (
            edition("optional string a = 1;"),
            "proto/a.proto:3: field a: editions have no optional; remove it, a field has presence unless \
             features.field_presence is IMPLICIT",
        ),
        (
            edition("strin a = 1;"),
            "proto/a.proto:3:3: name 'strin' is not defined; declare it, or import the file that declares it",
        ),
    ]);
}
