//! The catalog as its clients see it: over sockets, with a database in a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use bowline::prelude::*;
use bowline::server::{Server, ServerOptions};
use bowline::telemetry::Metrics;
use shop_api::catalog::v1::{
    BatchGetItemsRequest, GetItemRequest, ListItemsRequest, SearchItemsRequest, catalog_error,
    catalog_service,
};
use shop_api::common::v1::TraceRequest;
use shop_common::{Database, DatabaseConfig};

struct Running {
    client: catalog_service::Client,
    _server: Server,
    database: Database,
    folder: tempfile::TempDir,
}

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::at(folder.path().join("catalog.db"));
    let database = shop_catalog::data::open(&Context::background(), &config).await.unwrap();
    let mut server = Server::new("catalog", ServerOptions::at("127.0.0.1:0").unwrap())
        .mount(shop_catalog::mount(&database, &Metrics::new()));
    let target = server.bind().unwrap().to_string();
    let caller = bowline::client::Channel::builder(target).build().unwrap().caller().unwrap();
    Running { client: catalog_service::Client::new(caller), _server: server, database, folder }
}

fn get(id: &str) -> GetItemRequest {
    GetItemRequest { id: id.into(), ..Default::default() }
}

#[tokio::test]
async fn an_item_has_its_texts_and_its_price() {
    let (cx, catalog) = (Context::background(), start().await);
    let item = catalog.client.get_item(&cx, get("item-0003")).await.unwrap();
    assert_eq!((item.title.as_str(), item.language.as_str()), ("Τσαγιέρα «Αιγαίο»", "el"));
    assert_eq!((item.price.currency_code.as_str(), item.price.units), ("EUR", 2490));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_has_a_reason() {
    let (cx, catalog) = (Context::background(), start().await);
    let client = &catalog.client;
    let error = client.get_item(&cx, get("item-9999")).await.unwrap_err();
    assert!(catalog_error::is_item_not_found(&error) && error.metadata()["item_id"] == "item-9999");
    let error = client.get_item(&cx, get("ITEM 1")).await.unwrap_err();
    assert!(catalog_error::is_invalid_item_id(&error) && error.is_invalid());
    let list = ListItemsRequest { page_size: -1, ..Default::default() };
    assert!(catalog_error::is_invalid_page_size(&client.list_items(&cx, list).await.unwrap_err()));
    let list = ListItemsRequest { page_token: "?".into(), ..Default::default() };
    assert!(catalog_error::is_invalid_page_token(&client.list_items(&cx, list).await.unwrap_err()));
    let batch = BatchGetItemsRequest { ids: vec!["a".into(); 101], ..Default::default() };
    assert!(catalog_error::is_too_many_ids(&client.batch_get_items(&cx, batch).await.unwrap_err()));
}

#[tokio::test]
async fn pages_lead_through_the_whole_catalog() {
    let (cx, catalog) = (Context::background(), start().await);
    let mut request = ListItemsRequest { page_size: 100, ..Default::default() };
    let mut ids = Vec::new();
    loop {
        let page = catalog.client.list_items(&cx, request.clone()).await.unwrap();
        ids.extend(page.items.into_iter().map(|item| item.id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(ids.len(), 520);
    assert!(ids.is_sorted());
    let books = ListItemsRequest { category: "books".into(), ..Default::default() };
    let books = catalog.client.list_items(&cx, books).await.unwrap();
    assert_eq!(books.items.len(), 20);
    assert!(books.items.iter().all(|item| item.category == "books"));
}

#[tokio::test]
async fn a_search_finds_titles_in_every_script() {
    let (cx, catalog) = (Context::background(), start().await);
    for (query, found) in [
        ("TEAPOT", 4),
        ("чашка «вОл", 1),
        ("ΌΛΥΜΠΟΣ", 13),
        ("青山", 13),
        ("さくら", 13),
        ("한강", 13),
        ("القمر", 13),
        ("ספל", 4),
        ("गंगा", 13),
        ("กาน้ำชา", 4),
        ("100%_'\"", 0),
    ] {
        let request = SearchItemsRequest { query: query.into(), ..Default::default() };
        let reply = catalog.client.search_items(&cx, request).await.unwrap();
        assert_eq!(reply.items.len(), found, "{query}");
    }
}

#[tokio::test]
async fn a_batch_answers_what_there_is() {
    let (cx, catalog) = (Context::background(), start().await);
    let ids = ["item-0520", "item-9999", "item-0001"].map(String::from).to_vec();
    let request = BatchGetItemsRequest { ids, ..Default::default() };
    let reply = catalog.client.batch_get_items(&cx, request).await.unwrap();
    assert_eq!(reply.items.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["item-0520", "item-0001"]);
}

#[tokio::test]
async fn a_database_that_is_filled_stays_as_it_is() {
    let (cx, catalog) = (Context::background(), start().await);
    let delete = sqlx::query("DELETE FROM items WHERE id <> 'item-0007'").execute(catalog.database.pool());
    delete.await.unwrap();
    let config = DatabaseConfig::at(catalog.folder.path().join("catalog.db"));
    let _again = shop_catalog::data::open(&cx, &config).await.unwrap();
    let all = catalog.client.list_items(&cx, ListItemsRequest::default()).await.unwrap();
    assert_eq!(all.items.len(), 1);
}

#[tokio::test]
async fn a_trace_ends_here() {
    let (cx, catalog) = (Context::background(), start().await);
    let reply = catalog.client.trace(&cx, TraceRequest::default()).await.unwrap();
    assert_eq!(reply.hops.len(), 1);
    assert_eq!(reply.hops[0].service, "catalog");
}
