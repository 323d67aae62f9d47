//! The shop as a browser sees it: REST, over a plain socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod harness;

use bowline::core::Endpoint;
use harness::{Shop, bounded};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends one request on a connection of its own; the status and the JSON of the answer.
async fn call(endpoint: &Endpoint, method: &str, path: &str, body: &str) -> (u16, Value) {
    let exchange = async {
        let mut stream = TcpStream::connect(endpoint.authority()).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = bounded(path, exchange).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_looks_around_and_buys() {
    let shop = Shop::start().await;
    let shop_at = shop.endpoint("shop");
    let (status, items) =
        call(&shop_at, "GET", "/v1/items?page_size=1&query=%D1%87%D0%B0%D1%88%D0%BA%D0%B0", "").await;
    assert_eq!((status, &items["items"][0]["title"]), (200, &json!("Чашка «Север»")));
    let (_, item) = call(&shop_at, "GET", "/v1/items/item-0001", "").await;
    assert_eq!(item["price"], json!({"currencyCode": "EUR", "units": "2490"}));
    let (_, availability) = call(&shop_at, "GET", "/v1/items/item-0001:availability", "").await;
    assert_eq!(availability, json!({"itemId": "item-0001", "inStock": true, "left": "10"}));

    let order = r#"{"customerId":"ada","idempotencyKey":"k1","lines":[{"itemId":"item-0001","quantity":2}]}"#;
    let (status, placed) = call(&shop_at, "POST", "/v1/orders", order).await;
    assert_eq!(
        (status, &placed["state"], &placed["total"]["units"]),
        (200, &json!("PLACED"), &json!("4980"))
    );
    let path = format!("/v1/orders/{}", placed["id"].as_str().unwrap());
    assert_eq!(call(&shop_at, "GET", &path, "").await, (200, placed));
    let (status, home) = call(&shop_at, "GET", "/v1/home?customer_id=ada", "").await;
    assert_eq!((status, home["recentOrders"].as_array().map(Vec::len)), (200, Some(1)));
    let (status, cancelled) = call(&shop_at, "POST", &format!("{path}:cancel"), "{}").await;
    assert_eq!((status, &cancelled["state"]), (200, &json!("CANCELLED")));
    let (_, trace) = call(&shop_at, "GET", "/v1/trace?hold_millis=1", "").await;
    assert_eq!(trace["hops"][2]["service"], "inventory");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_has_a_status_and_a_reason() {
    let shop = Shop::start().await;
    let shop_at = shop.endpoint("shop");
    let order = r#"{"customerId":"ada","idempotencyKey":"k1","lines":[{"itemId":"item-0404","quantity":1}]}"#;
    let (status, error) = call(&shop_at, "POST", "/v1/orders", order).await;
    assert_eq!((status, &error["reason"]), (400, &json!("OUT_OF_STOCK")));
    assert_eq!(error["metadata"]["item_id"], "item-0404");
    for (path, expected, reason) in [
        ("/v1/items/item-9999", 404, "ITEM_NOT_FOUND"),
        ("/v1/items/item-9999:availability", 404, "UNKNOWN_ITEM"),
        ("/v1/items?page_size=-1", 400, "INVALID_PAGE_SIZE"),
        ("/v1/orders/order-0", 404, "ORDER_NOT_FOUND"),
        ("/v1/trace?hops=shop", 400, "UNKNOWN_HOP"),
    ] {
        let (status, error) = call(&shop_at, "GET", path, "").await;
        assert_eq!((status, &error["reason"]), (expected, &json!(reason)), "{path}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_behind_it_speak_rest_too() {
    let shop = Shop::start().await;
    let (catalog, inventory, order) =
        (shop.endpoint("catalog"), shop.endpoint("inventory"), shop.endpoint("order"));
    let (status, item) = call(&catalog, "GET", "/v1/items/item-0003", "").await;
    assert_eq!((status, &item["language"]), (200, &json!("el")));
    let (_, found) = call(&catalog, "GET", "/v1/items:search?query=teapot", "").await;
    assert_eq!(found["items"].as_array().map(Vec::len), Some(4));
    let (_, batch) = call(&catalog, "GET", "/v1/items:batchGet?ids=item-0002&ids=item-0001", "").await;
    assert_eq!(batch["items"][0]["id"], "item-0002");
    let (_, stock) = call(&inventory, "GET", "/v1/stock/item-0001", "").await;
    assert_eq!(stock, json!({"itemId": "item-0001", "available": "537"}));
    let body = r#"{"reservationId":"r1","lines":[{"itemId":"item-0001","quantity":"7"}]}"#;
    let (_, held) = call(&inventory, "POST", "/v1/reservations", body).await;
    assert_eq!(held["state"], "HELD");
    let (_, released) = call(&inventory, "POST", "/v1/reservations/r1:release", "{}").await;
    assert_eq!(released["state"], "RELEASED");
    let (status, orders) = call(&order, "GET", "/v1/customers/ada/orders", "").await;
    assert_eq!((status, orders), (200, json!({})));
}
