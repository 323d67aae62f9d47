//! The shop through the gateway, in every protocol.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that tells its figures"
)]

use std::time::{Duration, Instant};

use bowline::client::Channel;
use bowline::core::{Code, Context};
use bowline_tests_e2e::{App, Fleet};
use bowline_tests_support::Http;
use serde_json::{Value, json};
use shop_api::interface::v1::{GetHomeRequest, LineRequest, PlaceOrderRequest, shop_service};
use shop_api::inventory::v1::inventory_error;

const CONNECT: [(&str, &str); 2] = [("content-type", "application/json"), ("connect-protocol-version", "1")];
const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc+json"), ("te", "trailers")];
const GRPC_WEB: [(&str, &str); 1] = [("content-type", "application/grpc-web+json")];

/// A message in gRPC's envelope.
fn envelope(json: &Value) -> Vec<u8> {
    let json = json.to_string();
    [&[0][..], &u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat()
}

/// The message in the first envelope of a body.
fn message(body: &[u8]) -> Value {
    let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
    serde_json::from_slice(&body[5..5 + length]).unwrap()
}

/// Waits until the gateway has found everybody: the home page has all its parts.
async fn settled(http: &mut Http) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = http.call("GET", "/v1/home?customer_id=c-1", &[], "").await;
        let whole = answer.status == 200 && answer.json().get("degraded").is_none();
        if whole {
            return;
        }
        assert!(Instant::now() < until, "the home page is not whole: {} {}", answer.status, answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_shop_answers_in_every_protocol_and_fails_in_each_ones_form() {
    let fleet = Fleet::shop().await;
    let port = fleet.one(App::Gateway).port;
    let (mut rest, mut http2) = (Http::connect(port).await, Http::connect_h2(port).await);
    settled(&mut rest).await;

    // The home page.
    let path = "/shop.interface.v1.ShopService/GetHome";
    let question = json!({"customerId": "c-1"});
    let by_rest = rest.call("GET", "/v1/home?customer_id=c-1", &[], "").await.json();
    assert!(by_rest["featured"].as_array().is_some_and(|items| !items.is_empty()), "{by_rest}");
    let connect = rest.call("POST", path, &CONNECT, question.to_string()).await;
    assert_eq!((connect.status, connect.json()), (200, by_rest.clone()));
    let grpc = http2.call("POST", path, &GRPC, envelope(&question)).await;
    assert_eq!((grpc.header("grpc-status"), message(&grpc.body)), ("0", by_rest.clone()));
    let web = rest.call("POST", path, &GRPC_WEB, envelope(&question)).await;
    assert_eq!((web.status, message(&web.body)), (200, by_rest.clone()));
    let channel = Channel::builder(fleet.target(App::Gateway)).build().unwrap();
    let client = shop_service::Client::new(channel.caller().unwrap());
    let cx = Context::background();
    let question = GetHomeRequest { customer_id: "c-1".into(), ..Default::default() };
    let typed = client.get_home(&cx, question).await.unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), by_rest, "protobuf, as a generated client speaks it");

    // An order, placed once in four protocols and by a generated client.
    let path = "/shop.interface.v1.ShopService/PlaceOrder";
    let order = json!({"customerId": "c-1", "idempotencyKey": "k-1", "lines": [{"itemId": "item-0001", "quantity": "2"}]});
    let json_type = [("content-type", "application/json")];
    let by_rest = rest.call("POST", "/v1/orders", &json_type, order.to_string()).await;
    assert_eq!(by_rest.status, 200, "{}", by_rest.text());
    let id = by_rest.json()["id"].clone();
    let connect = rest.call("POST", path, &CONNECT, order.to_string()).await.json();
    let grpc = message(&http2.call("POST", path, &GRPC, envelope(&order)).await.body);
    let web = message(&rest.call("POST", path, &GRPC_WEB, envelope(&order)).await.body);
    for again in [connect, grpc, web] {
        assert_eq!(again["id"], id, "the same key is the same order: {again}");
    }
    let order_of = |key: &str, quantity| PlaceOrderRequest {
        customer_id: "c-1".into(),
        idempotency_key: key.into(),
        lines: vec![LineRequest { item_id: "item-0001".into(), quantity, ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(client.place_order(&cx, order_of("k-1", 2)).await.unwrap().id, id);
    let home = rest.call("GET", "/v1/home?customer_id=c-1", &[], "").await.json();
    assert_eq!(home["recentOrders"].as_array().map(Vec::len), Some(1), "{home}");

    // The same error in each protocol's form: more than there is.
    let order = json!({"customerId": "c-1", "idempotencyKey": "k-2", "lines": [{"itemId": "item-0001", "quantity": "1000"}]});
    let by_rest = rest.call("POST", "/v1/orders", &json_type, order.to_string()).await;
    let error = by_rest.json();
    assert_eq!(error["reason"], "OUT_OF_STOCK", "{error}");
    assert_eq!(error["code"], by_rest.status);
    let connect = rest.call("POST", path, &CONNECT, order.to_string()).await;
    assert_eq!(connect.json()["details"][0]["type"], "google.rpc.ErrorInfo");
    assert_eq!(connect.json()["message"], error["message"]);
    let grpc = http2.call("POST", path, &GRPC, envelope(&order)).await;
    assert!(
        !["", "0"].contains(&grpc.header("grpc-status"))
            && !grpc.header("grpc-status-details-bin").is_empty()
    );
    let typed = client.place_order(&cx, order_of("k-2", 1000)).await.unwrap_err();
    assert!(inventory_error::is_out_of_stock(&typed), "{typed:?}");
    assert_eq!((typed.code(), Some(typed.message())), (Code::FailedPrecondition, error["message"].as_str()));
    let web = rest.call("POST", path, &GRPC_WEB, envelope(&order)).await;
    assert!(
        web.text().contains(&format!("grpc-status: {}", grpc.header("grpc-status")))
            || web.text().contains(&format!("grpc-status:{}", grpc.header("grpc-status"))),
        "{}",
        web.text()
    );
}

#[tokio::test]
async fn a_deadline_shrinks_from_hop_to_hop_and_a_callers_leaving_stops_the_last() {
    let fleet = Fleet::shop().await;
    let port = fleet.one(App::Gateway).port;
    let mut rest = Http::connect(port).await;
    settled(&mut rest).await;

    let path = "/v1/trace?hops=order&hops=inventory&hold_millis=";
    // The first call makes connections; the second is the one looked at.
    rest.call("GET", &format!("{path}0"), &[], "").await;
    let deadline = [("x-envoy-expected-rq-timeout-ms", "80")];
    // A machine with other work can take 80 ms for three hops by itself: then it is asked again.
    let mut answer = rest.call("GET", &format!("{path}0"), &deadline, "").await;
    for _ in 0..20 {
        if answer.status != 504 {
            break;
        }
        answer = rest.call("GET", &format!("{path}0"), &deadline, "").await;
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    let hops = answer.json()["hops"].clone();
    let left: Vec<i64> = hops
        .as_array()
        .unwrap()
        .iter()
        .map(|hop| hop["remainingMillis"].as_str().unwrap().parse().unwrap())
        .collect();
    println!("given 80 ms at the gateway, the hops had {left:?} ms left: {hops}");
    assert_eq!(left.len(), 3, "{hops}");
    assert!(left[0] <= 80 && left.windows(2).all(|pair| pair[1] <= pair[0]) && left[2] > 0, "{left:?}");
    let late = rest.call("GET", &format!("{path}60000"), &deadline, "").await;
    assert_eq!(
        (late.status, late.json()["reason"].as_str()),
        (504, Some("DEADLINE_EXCEEDED")),
        "{}",
        late.text()
    );

    // A caller that leaves: what it waited for three hops down stops.
    let last = fleet.one(App::Inventory);
    let holding = async || {
        let (_, page) = last.admin_page("/metrics").await.unwrap();
        let line =
            page.lines().find(|line| line.starts_with("shop_trace_holding ")).unwrap_or("0 0").to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let until = async |count: f64| {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while holding().await != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.expect("the last hop does not hold what it should");
    };
    until(0.0).await;
    let mut leaving = Http::connect(port).await;
    let held_path = format!("{path}60000");
    {
        let call = leaving.call("GET", &held_path, &[], "");
        tokio::select! {
            answer = call => panic!("it was not held: {answer:?}"),
            () = until(1.0) => {}
        }
    }
    let left_at = Instant::now();
    drop(leaving);
    until(0.0).await;
    println!("the last hop stopped {:?} after its caller left", left_at.elapsed());
}
