//! The REST binding, point by point, and the same method in the other protocols.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use bowline_tests_protocols::Running;
use bowline_tests_support::{Answer, Http};
use serde_json::{Value, json};

struct Rest {
    _running: Running,
    http: Http,
}

async fn rest() -> Rest {
    let running = Running::start().unwrap();
    let http = Http::connect(&running.endpoint).await;
    Rest { _running: running, http }
}

impl Rest {
    async fn get(&mut self, path: &str) -> Answer {
        self.http.call("GET", path, &[], "").await
    }

    async fn json(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.http.call(method, path, &[("content-type", "application/json")], body.to_owned()).await
    }

    #[track_caller]
    fn ok(answer: &Answer) -> Value {
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, reason: &str) {
    let body = answer.json();
    assert_eq!((answer.status, body["reason"].as_str()), (status, Some(reason)), "{body}");
    assert_eq!(body["code"], status, "{body}");
    assert!(body["message"].as_str().is_some_and(|m| !m.is_empty()));
}

#[tokio::test]
async fn paths_and_queries_bind_every_kind_of_field() {
    let mut rest = rest().await;
    let answer = rest
        .get(
            "/v1/echo/a%2Fb+c?big=9007199254740993&tags=x&tags=y+z&page.size=10&page.token=t&color=BLUE&colors=1&colors=BLUE\
             &nickname=nick&at=2020-01-02T03:04:05Z&wait=1.5s&mask=display_name,page.size&flag=true&ratio=0.5&display_name=d\
             &data=aGk%3D&unknown=1&page=x",
        )
        .await;
    assert_eq!(
        Rest::ok(&answer),
        json!({
            "name": "a/b+c", "big": "9007199254740993", "tags": ["x", "y z"], "page": {"size": 10, "token": "t"},
            "color": "BLUE", "colors": ["RED", "BLUE"], "nickname": "nick", "at": "2020-01-02T03:04:05Z", "wait": "1.500s",
            "mask": "displayName,page.size", "flag": true, "ratio": 0.5, "displayName": "d", "data": "aGk="
        })
    );
    let camel = rest.get("/v1/echo/n?displayName=d&color=2").await;
    assert_eq!(Rest::ok(&camel), json!({"name": "n", "displayName": "d", "color": "BLUE"}));
}

#[tokio::test]
async fn values_of_the_wrong_type_are_refused_by_name() {
    let mut rest = rest().await;
    for query in
        ["big=abc", "page.size=99999999999", "color=GREEN", "flag=yes", "ratio=x", "colors=1&colors=x"]
    {
        let answer = rest.get(&format!("/v1/echo/n?{query}")).await;
        refused(&answer, 400, "INVALID_PARAMETER");
    }
    for (query, mend) in [
        (
            "at=yesterday",
            "`at`: `yesterday` is no google.protobuf.Timestamp; write it as in 2020-01-02T03:04:05Z",
        ),
        ("wait=1.5", "`wait`: `1.5` is no google.protobuf.Duration; write seconds and an s, as in 1.5s"),
        ("data=%25", "`data`: `%` is no bytes; write them in base64"),
        (
            "mask=a-b",
            "`mask`: `a-b` is no google.protobuf.FieldMask; write names of fields and commas, as in display_name,page.size",
        ),
    ] {
        let answer = rest.get(&format!("/v1/echo/n?{query}")).await;
        refused(&answer, 400, "INVALID_PARAMETER");
        assert_eq!(answer.json()["message"], mend);
    }
    refused(&rest.get("/v1/echo/n?name=%ff").await, 400, "INVALID_QUERY");
    refused(&rest.get("/v1/echo/%ff").await, 400, "INVALID_PATH");
}

#[tokio::test]
async fn a_path_variable_wins_and_a_conflict_is_refused() {
    let mut rest = rest().await;
    assert_eq!(
        Rest::ok(&rest.json("PUT", "/v1/echo/a", r#"{"flag":true}"#).await),
        json!({"name": "a", "flag": true})
    );
    assert_eq!(Rest::ok(&rest.json("PUT", "/v1/echo/a", r#"{"name":"a"}"#).await), json!({"name": "a"}));
    refused(&rest.json("PUT", "/v1/echo/a", r#"{"name":"b"}"#).await, 400, "CONFLICTING_PARAMETER");
    refused(&rest.get("/v1/echo/a?name=b").await, 400, "CONFLICTING_PARAMETER");
    assert_eq!(Rest::ok(&rest.get("/v1/echo/a?name=a").await), json!({"name": "a"}));
}

#[tokio::test]
async fn a_field_is_one_by_either_of_its_names() {
    let mut rest = rest().await;
    for (path, body) in [
        ("/v1/named/a", r#"{"display_name":"b"}"#),
        ("/v1/named/a", r#"{"displayName":"b"}"#),
        ("/v1/next/a", r#"{"next_page":{"next_token":"b"}}"#),
        ("/v1/next/a", r#"{"next_page":{"nextToken":"b"}}"#),
        ("/v1/next/a", r#"{"nextPage":{"next_token":"b"}}"#),
        ("/v1/next/a/page", r#"{"next_token":"b"}"#),
        ("/v1/echo/a/page?page.next_token=a", r#"{"nextToken":"b"}"#),
        ("/v1/echo/a/page?page.nextToken=a", r#"{"next_token":"b"}"#),
        ("/v1/echo/a/page?page.size=1", r#"{"size":2}"#),
    ] {
        let verb = if path.contains("echo") { "PATCH" } else { "PUT" };
        refused(&rest.json(verb, path, body).await, 400, "CONFLICTING_PARAMETER");
        Rest::ok(&rest.json(verb, path, &body.replace("\"b\"", "\"a\"").replace('2', "1")).await);
    }
    let whole = rest.json("PUT", "/v1/next/a", r#"{"next_page":{"size":1}}"#).await;
    assert_eq!(Rest::ok(&whole), json!({"nextPage": {"size": 1, "nextToken": "a"}}));
    for twice in [r#"{"display_name":"a","displayName":"b"}"#, r#"{"display_name":"b","displayName":"a"}"#] {
        refused(&rest.json("PUT", "/v1/named/a", twice).await, 400, "INVALID_JSON");
    }
    refused(&rest.json("PUT", "/v1/left/a", r#"{"right":"b"}"#).await, 400, "INVALID_JSON");
}

#[tokio::test]
async fn the_same_value_may_be_written_differently() {
    let mut rest = rest().await;
    for (path, body) in [
        ("/v1/colors/BLUE", r#"{"color":2}"#),
        ("/v1/colors/2", r#"{"color":"BLUE"}"#),
        ("/v1/bigs/7", r#"{"big":7}"#),
        ("/v1/bigs/7", r#"{"big":"7"}"#),
        ("/v1/bigs/07", r#"{"big":7.0}"#),
        ("/v1/ratios/7", r#"{"ratio":7.0}"#),
    ] {
        Rest::ok(&rest.json("PUT", path, body).await);
    }
    for (path, body) in [
        ("/v1/colors/BLUE", r#"{"color":1}"#),
        ("/v1/bigs/7", r#"{"big":7.5}"#),
        ("/v1/named/7", r#"{"display_name":"07"}"#),
    ] {
        refused(&rest.json("PUT", path, body).await, 400, "CONFLICTING_PARAMETER");
    }
}

#[tokio::test]
async fn bodies_bind_as_the_rule_says() {
    let mut rest = rest().await;
    let all = rest.json("POST", "/v1/echo", r#"{"name":"n","big":"7","unknown":[1,{"a":2}]}"#).await;
    assert_eq!(Rest::ok(&all), json!({"name": "n", "big": "7"}));
    refused(&rest.json("POST", "/v1/echo?flag=true", "{}").await, 400, "UNEXPECTED_QUERY");
    let field = rest.json("PATCH", "/v1/echo/n/page?flag=true", r#"{"size":3}"#).await;
    assert_eq!(Rest::ok(&field), json!({"name": "n", "flag": true, "page": {"size": 3}}));
    let reply_field = rest.get("/v1/pages/t").await;
    assert_eq!(Rest::ok(&reply_field), json!({"token": "t"}));
    let verb = rest.json("POST", "/v1/echo/n:shout", "{}").await;
    assert_eq!(Rest::ok(&verb), json!({"name": "n"}));
    let rest_of_path = rest.get("/v1/deep/a/b%2Fc").await;
    assert_eq!(Rest::ok(&rest_of_path), json!({"name": "a/b%2Fc"}));
    refused(&rest.get("/v1/deep/").await, 404, "ROUTE_NOT_FOUND");
    // Not the verb, which would leave nothing for the variable.
    assert_eq!(Rest::ok(&rest.get("/v1/deep/:read").await), json!({"name": ":read"}));
    let decoded = rest.get("/v1/caf%C3%A9/n:gr%C3%B6%C3%9Fer").await;
    assert_eq!(Rest::ok(&decoded), json!({"name": "n"}));
    let map = rest.json("PUT", "/v1/labels", r#"{"a":"b"}"#).await;
    assert_eq!(Rest::ok(&map), json!({"labels": {"a": "b"}}));
    let reply_map = rest.json("POST", "/v1/echo:labels", r#"{"name":"n","labels":{"a":"b"}}"#).await;
    assert_eq!(Rest::ok(&reply_map), json!({"a": "b"}));
    let nothing = rest.http.call("POST", "/v1/echo", &[], "").await;
    assert_eq!(Rest::ok(&nothing), json!({}));
}

#[tokio::test]
async fn other_content_types_are_415_and_broken_json_is_400() {
    let mut rest = rest().await;
    let xml = rest.http.call("POST", "/v1/echo", &[("content-type", "application/xml")], "<a/>").await;
    refused(&xml, 415, "UNSUPPORTED_MEDIA_TYPE");
    for broken in
        ["{", "[]", "\"a\"", r#"{"big": "x"}"#, r#"{"page": 1}"#, "{\"name\": \"\u{0}\"", "\u{feff}{}"]
    {
        let answer = rest.json("POST", "/v1/echo", broken).await;
        refused(&answer, 400, "INVALID_JSON");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    refused(&rest.json("POST", "/v1/echo", &deep).await, 400, "INVALID_JSON");
    refused(&rest.json("PUT", "/v1/echo/n", &format!(r#"{{"unknown":{deep}}}"#)).await, 400, "INVALID_JSON");
    // An unknown key is passed over without recursion where nothing needs to be merged.
    Rest::ok(&rest.json("POST", "/v1/echo", &format!(r#"{{"unknown":{deep}}}"#)).await);
    for json in ["application/json; charset=utf-8", "Application/JSON"] {
        Rest::ok(&rest.http.call("POST", "/v1/echo", &[("content-type", json)], "{}").await);
    }
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(4 << 20));
    refused(&rest.json("POST", "/v1/echo", &large).await, 413, "BODY_TOO_LARGE");
}

#[tokio::test]
async fn protobuf_goes_in_and_out_over_rest() {
    use bowline_rpc::codegen::buffa::Message as _;
    use bowline_tests_protocols::api::testing::v1::Everything;
    let mut rest = rest().await;
    let sent = Everything { big: 7, ..Default::default() };
    let headers = [("content-type", "application/protobuf"), ("accept", "application/protobuf")];
    let answer = rest.http.call("PUT", "/v1/echo/n", &headers, sent.encode_to_vec()).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/protobuf"),
        "{}",
        answer.text()
    );
    let got = Everything::decode_from_slice(&answer.body).unwrap();
    assert_eq!(got, Everything { name: "n".into(), ..sent });

    // What the server does not know of survives, at every level: field 99 of the message and of `next_page`.
    let unknown = [0x98, 0x06, 0x01];
    let sent = [&[0x9a, 0x01, 0x03][..], &unknown, &unknown].concat();
    let answer = rest.http.call("PUT", "/v1/next/t", &headers, sent).await;
    let expected = [&[0x9a, 0x01, 0x06, 0x1a, 0x01, b't'][..], &unknown, &unknown].concat();
    assert_eq!(answer.body, expected, "{}", answer.text());
    let sent = Everything { name: "other".into(), ..Default::default() }.encode_to_vec();
    refused(&rest.http.call("PUT", "/v1/echo/n", &headers, sent).await, 400, "CONFLICTING_PARAMETER");
    let right = [0x92, 0x01, 0x01, b'b'].to_vec();
    refused(&rest.http.call("PUT", "/v1/left/a", &headers, right).await, 400, "INVALID_JSON");

    let unlike = [
        ("content-type", "Application/X-Protobuf"),
        ("accept", "application/json, application/protobuf;q=0.1"),
    ];
    let answer = rest.http.call("POST", "/v1/echo", &unlike, vec![0x0a, 1, b'n']).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(Rest::ok(&answer), json!({"name": "n"}));
}

#[tokio::test]
async fn http_bodies_pass_as_they_are() {
    let mut rest = rest().await;
    let png = [("content-type", "image/png")];
    let up = rest.http.call("POST", "/v1/files/a.png", &png, vec![0, 255, 10]).await;
    assert_eq!(Rest::ok(&up), json!({"name": "a.png", "contentType": "image/png", "size": "3"}));
    let down = rest.get("/v1/files/7").await;
    assert_eq!((down.header("content-type"), down.text()), ("text/csv", "value\n7\n".to_owned()));
    let untyped = rest.http.call("POST", "/v1/files/a", &[], vec![0, 255, 10]).await;
    assert_eq!(Rest::ok(&untyped), json!({"name": "a", "size": "3"}));
    let field = r#"{"name":"n","file":{"contentType":"image/png","data":"AP8K"}}"#;
    let field = rest.json("POST", "/v1/echo:file", field).await;
    assert_eq!((field.header("content-type"), &field.body[..]), ("image/png", &[0, 255, 10][..]));
}

#[tokio::test]
async fn streams_of_http_bodies_pass_as_they_are() {
    let mut rest = rest().await;
    let down = rest.get("/v1/lines/3").await;
    assert_eq!((down.header("content-type"), down.text()), ("text/csv", "1\n2\n3\n".to_owned()));
    let nothing = rest.get("/v1/lines/0").await;
    assert_eq!((nothing.status, nothing.text()), (200, String::new()));
    refused(&rest.get("/v1/lines/3?fail_after=-1").await, 404, "ITEM_NOT_FOUND");
    let mut http2 = Http::connect_h2(&rest._running.endpoint).await;
    for http in [&mut rest.http, &mut http2] {
        assert!(
            http.try_call("GET", "/v1/lines/3?fail_after=1", &[], "").await.is_none(),
            "ended as if whole"
        );
    }
    assert_eq!(http2.call("GET", "/v1/lines/1", &[], "").await.text(), "1\n");

    let file = r#"{"name":"n","file":{"contentType":"image/png","data":"AP8K"}}"#;
    let json = [("content-type", "application/json")];
    let twice = http2.call("POST", "/v1/repeat:file", &json, file).await;
    assert_eq!((twice.header("content-type"), &twice.body[..]), ("image/png", &[0, 255, 10, 0, 255, 10][..]));
    let names = http2.call("POST", "/v1/repeat:name", &json, file).await;
    assert_eq!(names.text(), "\"n\"\n\"n\"\n");
    let events = [json[0], ("accept", "text/event-stream")];
    let names = http2.call("POST", "/v1/repeat:name", &events, file).await;
    assert_eq!(names.text(), "data: \"n\"\n\ndata: \"n\"\n\nevent: end\ndata: {}\n\n");

    let up = http2.call("POST", "/v1/uploads", &[("content-type", "image/png")], vec![7; 300_000]).await;
    assert_eq!(Rest::ok(&up), json!({"contentType": "image/png,", "size": "300000"}));
    // Without the rule, messages are JSON as all others are.
    let plain = http2.call("POST", "/testing.v1.Testing/Lines", &json, r#"{"to":1}"#).await;
    assert_eq!(plain.text(), "{\"contentType\":\"text/csv\",\"data\":\"MQo=\"}\n");
}

#[tokio::test]
async fn plain_json_at_the_path_of_a_method_is_rest() {
    let mut rest = rest().await;
    let (echo, fail) = ("/testing.v1.Testing/Echo", "/testing.v1.Testing/Fail");
    let nothing = rest.http.call("POST", echo, &[], "").await;
    assert_eq!((nothing.status, nothing.text()), (200, "{}".to_owned()));
    let xml = rest.http.call("POST", echo, &[("content-type", "application/xml")], "<a/>").await;
    refused(&xml, 415, "UNSUPPORTED_MEDIA_TYPE");
    refused(&rest.json("POST", &format!("{echo}?flag=true"), "{}").await, 400, "UNEXPECTED_QUERY");
    refused(&rest.json("POST", fail, r#"{"how":"NOT_FOUND"}"#).await, 404, "ITEM_NOT_FOUND");

    let sleep = "/testing.v1.Testing/Sleep";
    for name in ["x-envoy-expected-rq-timeout-ms", "connect-timeout-ms"] {
        let late = [("content-type", "application/json"), (name, "20")];
        refused(&rest.http.call("POST", sleep, &late, r#"{"millis":60000}"#).await, 504, "DEADLINE_EXCEEDED");
    }

    // A success is the same in both.
    let json = ("content-type", "application/json");
    let body = r#"{"name":"n","big":"7","page":{"size":1}}"#;
    let plain = rest.http.call("POST", echo, &[json], body).await;
    let connect = rest.http.call("POST", echo, &[json, ("connect-protocol-version", "1")], body).await;
    assert_eq!((plain.status, plain.text()), (200, connect.text()));
    assert_eq!(plain.header("content-type"), connect.header("content-type"));
    let plain = rest.json("POST", "/testing.v1.Testing/Download", r#"{"value":7}"#).await;
    assert_eq!(Rest::ok(&plain), json!({"contentType": "text/csv", "data": "dmFsdWUKNwo="}));

    // What only Connect has is Connect's without its version as well.
    let proto = [("content-type", "application/proto")];
    let answer = rest.http.call("POST", fail, &proto, b"\x0a\x09NOT_FOUND".to_vec()).await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_found")));
    let packed = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 202, 75, 204, 77, 85, 178, 82, 202, 83, 170, 5, 0, 171,
        108, 42, 134, 12, 0, 0, 0,
    ];
    let gzip = [json, ("content-encoding", "gzip")];
    assert_eq!(Rest::ok(&rest.http.call("POST", echo, &gzip, packed.to_vec()).await), json!({"name": "n"}));
}

#[tokio::test]
async fn streams_are_lines_or_events_and_an_error_is_the_last_element() {
    let mut rest = rest().await;
    let lines = rest.get("/v1/count/3").await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    assert_eq!(lines.text(), "{\"value\":1}\n{\"value\":2}\n{\"value\":3}\n");
    let broken = rest.get("/v1/count/9?fail_after=1").await;
    let text = broken.text();
    let (first, last) = text.split_once('\n').unwrap();
    assert_eq!(first, r#"{"value":1}"#);
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["@error"]["reason"], "ITEM_NOT_FOUND", "{last}");

    let events = [("accept", "text/event-stream")];
    let answer = rest.http.call("GET", "/v1/count/2", &events, "").await;
    assert_eq!(answer.text(), "data: {\"value\":1}\n\ndata: {\"value\":2}\n\nevent: end\ndata: {}\n\n");
    let broken = rest.http.call("GET", "/v1/count/9?failAfter=1", &events, "").await.text();
    assert!(broken.contains("event: error\ndata: {") && !broken.contains("event: end"), "{broken}");

    let sum = rest
        .http
        .call(
            "POST",
            "/v1/sum",
            &[("content-type", "application/x-ndjson")],
            "{\"value\":1}\n\n{\"value\":41}",
        )
        .await;
    assert_eq!(Rest::ok(&sum), json!({"value": 42}));
    for path in ["/v1/sum?value=1", "/testing.v1.Testing/Sum?value=1"] {
        refused(&rest.json("POST", path, r#"{"value":1}"#).await, 400, "UNEXPECTED_QUERY");
    }
    let plain = rest.json("POST", "/testing.v1.Testing/Count", r#"{"to":1}"#).await;
    assert_eq!(plain.text(), "{\"value\":1}\n");
    let plain = rest.json("POST", "/testing.v1.Testing/Double", "{\"value\":1}\n{\"value\":2}").await;
    assert_eq!(plain.text(), "{\"value\":2}\n{\"value\":4}\n");
}

#[tokio::test]
async fn errors_have_one_form_and_unknown_paths_have_it_too() {
    let mut rest = rest().await;
    let missing = rest.get("/v1/fail/NOT_FOUND").await;
    assert_eq!(missing.status, 404);
    assert_eq!(
        missing.json(),
        json!({"code": 404, "reason": "ITEM_NOT_FOUND", "message": "there is no such item", "metadata": {"id": "7"}})
    );
    for internal in ["INTERNAL", "PANIC"] {
        let answer = rest.get(&format!("/v1/fail/{internal}")).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["message"]), (500, &json!("internal error")), "{body}");
        assert_eq!(body["metadata"]["request_id"], answer.header("x-request-id"));
    }
    let busy = rest.get("/v1/fail/BUSY").await;
    assert_eq!((busy.status, busy.header("retry-after")), (503, "2"));
    refused(&rest.get("/nowhere").await, 404, "ROUTE_NOT_FOUND");
    let wrong = rest.http.call("DELETE", "/v1/echo/n", &[], "").await;
    refused(&wrong, 405, "METHOD_NOT_ALLOWED");
    assert_eq!(wrong.header("allow"), "GET, PUT");
    let late =
        rest.http.call("GET", "/v1/sleep/60000", &[("x-envoy-expected-rq-timeout-ms", "20")], "").await;
    refused(&late, 504, "DEADLINE_EXCEEDED");
    let odd = rest.http.call("GET", "/v1/sleep/0", &[("x-envoy-expected-rq-timeout-ms", "soon")], "").await;
    refused(&odd, 400, "INVALID_TIMEOUT");
}

#[tokio::test]
async fn the_same_method_and_error_in_every_protocol() {
    let mut rest = rest().await;
    let path = "/testing.v1.Testing/Fail";
    let body = r#"{"how":"NOT_FOUND"}"#;

    let connect = [("content-type", "application/json"), ("connect-protocol-version", "1")];
    let answer = rest.http.call("POST", path, &connect, body).await;
    let error = answer.json();
    assert_eq!((answer.status, &error["code"]), (404, &json!("not_found")), "{error}");
    assert_eq!(error["details"][0]["type"], "google.rpc.ErrorInfo");

    let envelope = [&[0, 0, 0, 0, u8::try_from(body.len()).unwrap()], body.as_bytes()].concat();
    let web = [("content-type", "application/grpc-web+json")];
    let answer = rest.http.call("POST", path, &web, envelope.clone()).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200);
    assert!(text.contains("grpc-status: 5") || text.contains("grpc-status:5"), "{text}");

    let grpc = [("content-type", "application/grpc+json"), ("te", "trailers")];
    let mut http2 = Http::connect_h2(&rest._running.endpoint).await;
    let answer = http2.call("POST", path, &grpc, envelope).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "5"));
    assert_eq!(answer.header("grpc-message"), "there is no such item");

    let unknown = http2.call("POST", "/testing.v1.Testing/Nothing", &grpc, vec![0; 5]).await;
    assert_eq!(unknown.header("grpc-status"), "12");
    let unknown = rest.http.call("POST", "/testing.v1.Testing/Nothing", &connect, "{}").await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("unimplemented")));
}
