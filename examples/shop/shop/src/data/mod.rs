//! The services behind the interface.

use bowline::prelude::*;
use shop_api::catalog::v1::{BatchGetItemsRequest, Item, catalog_service};
use shop_api::inventory::v1::{BatchGetStockRequest, Stock, inventory_service};
use shop_api::order::v1::{ListOrdersRequest, Order, order_service};

use crate::biz::HomeSources;

/// How many orders the home page shows.
const RECENT: i32 = 5;

/// Clients of the services behind the interface.
#[derive(Clone, Debug)]
pub struct Backends {
    /// Knows items.
    pub catalog: catalog_service::Client,
    /// Knows stock.
    pub inventory: inventory_service::Client,
    /// Knows orders.
    pub order: order_service::Client,
}

impl HomeSources for Backends {
    type Item = Item;
    type Stock = Stock;
    type Order = Order;

    async fn items(&self, cx: Context, ids: Vec<String>) -> Result<Vec<Item>> {
        let request = BatchGetItemsRequest { ids, ..Default::default() };
        Ok(self.catalog.batch_get_items(&cx, request).await?.items)
    }

    async fn stock(&self, cx: Context, ids: Vec<String>) -> Result<Vec<Stock>> {
        let request = BatchGetStockRequest { item_ids: ids, ..Default::default() };
        Ok(self.inventory.batch_get_stock(&cx, request).await?.stock)
    }

    async fn recent_orders(&self, cx: Context, customer: String) -> Result<Vec<Order>> {
        let request = ListOrdersRequest { customer_id: customer, page_size: RECENT, ..Default::default() };
        Ok(self.order.list_orders(&cx, request).await?.orders)
    }
}
