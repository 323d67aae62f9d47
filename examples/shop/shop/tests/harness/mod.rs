//! The whole shop in one process: four applications that find each other through a registry in memory.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline::app::{Handle, Lifecycle, State};
use bowline::client::Channel;
use bowline::core::Endpoint;
use bowline::discovery::{Memory, Resolver};
use bowline::prelude::*;
use bowline::server::{Server, ServerOptions};
use bowline::telemetry::Metrics;
use shop_api::catalog::v1::catalog_service;
use shop_api::interface::v1::{GetHomeRequest, Home, LineRequest, Order, PlaceOrderRequest, shop_service};
use shop_api::inventory::v1::{GetStockRequest, inventory_service};
use shop_api::order::v1::order_service;
use shop_common::DatabaseConfig;
use shop_interface::HomeConfig;
use shop_interface::data::Backends;
use shop_order::Clients;

pub(crate) struct Shop {
    pub(crate) client: shop_service::Client,
    /// What each application measures.
    pub(crate) metrics: BTreeMap<&'static str, Metrics>,
    pub(crate) inventory: inventory_service::Client,
    registry: Memory,
    handles: BTreeMap<&'static str, Handle>,
    running: Group<()>,
    _folder: tempfile::TempDir,
}

/// Gives up waiting where a test would hang.
pub(crate) async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(Duration::from_secs(20), future).await;
    bounded.unwrap_or_else(|_| panic!("20 s were not enough for: {what}"))
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    bounded(what, waiting).await;
}

impl Shop {
    pub(crate) async fn start() -> Self {
        let (cx, folder, registry) = (Context::background(), tempfile::tempdir().unwrap(), Memory::new());
        let resolver = Arc::new(Resolver::new().with_registry(Arc::new(registry.clone())));
        let caller = |target: &str| {
            Channel::builder(target).resolver(Arc::clone(&resolver)).build().unwrap().caller().unwrap()
        };
        let catalog = catalog_service::Client::new(caller("discovery:///catalog"));
        let inventory = inventory_service::Client::new(caller("discovery:///inventory"));
        let order = order_service::Client::new(caller("discovery:///order"));
        let mut shop = Self {
            client: shop_service::Client::new(caller("discovery:///shop")),
            metrics: ["catalog", "inventory", "order", "shop"].map(|name| (name, Metrics::new())).into(),
            inventory: inventory.clone(),
            registry,
            handles: BTreeMap::new(),
            running: Group::new(&cx),
            _folder: folder,
        };

        let database = shop_catalog::data::open(&cx, &shop.database("catalog")).await.unwrap();
        let service = shop_catalog::mount(&database, &shop.metrics["catalog"]);
        shop.run("catalog", |app, server| app.server(server.mount(service)).own(database)).await;

        let database = shop_inventory::data::open(&cx, &shop.database("inventory")).await.unwrap();
        let service = shop_inventory::mount(&database, &shop.metrics["inventory"]);
        shop.run("inventory", |app, server| app.server(server.mount(service)).own(database)).await;

        let clients = Clients { catalog: catalog.clone(), inventory: inventory.clone() };
        let database = shop_order::data::open(&cx, &shop.database("order")).await.unwrap();
        let orders = shop_order::orders(&database, &clients);
        let service = shop_order::mount(&orders, clients, &shop.metrics["order"]);
        shop.run("order", |app, server| app.server(server.mount(service)).own(database)).await;

        let home = HomeConfig {
            featured: ["item-0001", "item-0004", "item-0404"].map(String::from).to_vec(),
            featured_within: Duration::from_secs(5),
            stock_within: Duration::from_secs(5),
            recent_orders_within: Duration::from_secs(5),
        };
        let backends = Backends { catalog, inventory, order };
        let service = shop_interface::mount(backends, home, &shop.metrics["shop"]);
        shop.run("shop", |app, server| app.server(server.mount(service))).await;
        shop
    }

    fn database(&self, name: &str) -> DatabaseConfig {
        DatabaseConfig::at(self._folder.path().join(format!("{name}.db")))
    }

    /// Runs an application at a free port until it is registered.
    async fn run(&mut self, name: &'static str, build: impl FnOnce(App, Server) -> App) {
        let mut lifecycle = Lifecycle::default();
        // The registry is here: nobody hears of a change late.
        lifecycle.propagation = Duration::ZERO;
        let app = App::new(name).options(lifecycle).registrar(Arc::new(self.registry.clone()));
        let app = build(app, Server::new(name, ServerOptions::at("127.0.0.1:0").unwrap()));
        let handle = app.handle();
        self.running.spawn(|_| app.run_until(std::future::pending()));
        bounded(name, handle.running()).await;
        assert_eq!(handle.state(), State::Running, "{name}");
        self.handles.insert(name, handle);
    }

    /// Stops an application and waits until it has.
    pub(crate) async fn stop(&self, name: &str) {
        let handle = &self.handles[name];
        handle.shutdown();
        bounded("stopping", handle.watch_state().wait_for(|state| *state == State::Stopped)).await.unwrap();
    }

    /// Where an application listens.
    pub(crate) fn endpoint(&self, name: &str) -> Endpoint {
        self.handles[name].instance().endpoints[0].clone()
    }

    pub(crate) async fn home(&self, customer: &str) -> Result<Home> {
        let request = GetHomeRequest { customer_id: customer.into(), ..Default::default() };
        bounded("home", self.client.get_home(&Context::background(), request)).await
    }

    pub(crate) async fn place(&self, key: &str, lines: &[(&str, i64)]) -> Result<Order> {
        bounded("placing an order", place(&self.client, &Context::background(), key, lines)).await
    }

    /// What is available and what is reserved of an item.
    pub(crate) async fn stock(&self, item: &str) -> (i64, i64) {
        let request = GetStockRequest { item_id: item.into(), ..Default::default() };
        let stock = self.inventory.get_stock(&Context::background(), request).await.unwrap();
        (stock.available, stock.reserved)
    }
}

/// Places an order of the customer `ada`.
pub(crate) async fn place(
    client: &shop_service::Client,
    cx: &Context,
    key: &str,
    lines: &[(&str, i64)],
) -> Result<Order> {
    let line = |(id, quantity): &(&str, i64)| LineRequest {
        item_id: (*id).into(),
        quantity: *quantity,
        ..Default::default()
    };
    let request = PlaceOrderRequest {
        customer_id: "ada".into(),
        idempotency_key: key.into(),
        lines: lines.iter().map(line).collect(),
        ..Default::default()
    };
    client.place_order(cx, request).await
}
