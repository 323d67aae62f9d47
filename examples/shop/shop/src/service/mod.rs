//! The contract `shop.interface.v1.ShopService`, answered by the services behind it.
//!
//! What they refuse is passed on as they said it: code, reason, message and metadata.

mod view;

use bowline::prelude::*;
use shop_api::catalog::v1 as catalog;
use shop_api::interface::v1::{
    Availability, CancelOrderRequest, GetAvailabilityRequest, GetHomeRequest, GetItemRequest,
    GetOrderRequest, Home as HomeReply, ItemDetails, ListItemsReply, ListItemsRequest, Order,
    PlaceOrderRequest, TraceReply, TraceRequest, shop_error, shop_service,
};
use shop_api::inventory::v1 as inventory;
use shop_api::order::v1 as order;
use shop_common::trace::Tracer;

use crate::biz::Home;
use crate::data::Backends;

/// The way a trace takes that names none.
const DEFAULT_ROUTE: [&str; 2] = ["order", "inventory"];

/// Answers what `shop.interface.v1.ShopService` is asked.
#[derive(Debug)]
pub struct ShopService {
    backends: Backends,
    home: Home<Backends>,
    tracer: Tracer,
}

impl ShopService {
    /// Answers with what the backends answer.
    pub fn new(backends: Backends, home: Home<Backends>, tracer: Tracer) -> Self {
        Self { backends, home, tracer }
    }
}

impl shop_service::Service for ShopService {
    async fn get_home(&self, cx: &Context, req: GetHomeRequest) -> Result<HomeReply> {
        let customer = Some(req.customer_id).filter(|id| !id.is_empty());
        let page = self.home.page(cx, customer).await?;
        let degraded = page.degraded();
        if !degraded.is_empty() {
            cx.mark_degraded();
        }
        Ok(HomeReply {
            degraded,
            featured: page.featured.content().into_iter().map(view::card).collect(),
            stock: page.stock.content().into_iter().map(view::availability).collect(),
            recent_orders: page.recent_orders.content().into_iter().map(view::summary).collect(),
            ..Default::default()
        })
    }

    async fn list_items(&self, cx: &Context, req: ListItemsRequest) -> Result<ListItemsReply> {
        let ListItemsRequest { page_size, page_token, category, query, .. } = req;
        let (items, next_page_token) = match (query.is_empty(), category.is_empty()) {
            (false, false) => return Err(shop_error::query_with_category()),
            (false, true) => {
                let request =
                    catalog::SearchItemsRequest { query, page_size, page_token, ..Default::default() };
                let page = self.backends.catalog.search_items(cx, request).await?;
                (page.items, page.next_page_token)
            }
            (true, _) => {
                let request =
                    catalog::ListItemsRequest { page_size, page_token, category, ..Default::default() };
                let page = self.backends.catalog.list_items(cx, request).await?;
                (page.items, page.next_page_token)
            }
        };
        Ok(ListItemsReply {
            items: items.into_iter().map(view::card).collect(),
            next_page_token,
            ..Default::default()
        })
    }

    async fn get_item(&self, cx: &Context, req: GetItemRequest) -> Result<ItemDetails> {
        let request = catalog::GetItemRequest { id: req.id, ..Default::default() };
        Ok(view::details(self.backends.catalog.get_item(cx, request).await?))
    }

    async fn get_availability(&self, cx: &Context, req: GetAvailabilityRequest) -> Result<Availability> {
        let request = inventory::GetStockRequest { item_id: req.id, ..Default::default() };
        Ok(view::availability(self.backends.inventory.get_stock(cx, request).await?))
    }

    async fn place_order(&self, cx: &Context, req: PlaceOrderRequest) -> Result<Order> {
        let request = order::PlaceOrderRequest {
            customer_id: req.customer_id,
            idempotency_key: req.idempotency_key,
            lines: req.lines.into_iter().map(view::wanted).collect(),
            ..Default::default()
        };
        Ok(view::order(self.backends.order.place_order(cx, request).await?))
    }

    async fn get_order(&self, cx: &Context, req: GetOrderRequest) -> Result<Order> {
        let request = order::GetOrderRequest { id: req.id, ..Default::default() };
        Ok(view::order(self.backends.order.get_order(cx, request).await?))
    }

    async fn cancel_order(&self, cx: &Context, req: CancelOrderRequest) -> Result<Order> {
        let request = order::CancelOrderRequest { id: req.id, ..Default::default() };
        Ok(view::order(self.backends.order.cancel_order(cx, request).await?))
    }

    async fn trace(&self, cx: &Context, req: TraceRequest) -> Result<TraceReply> {
        let hops = if req.hops.is_empty() { DEFAULT_ROUTE.map(str::to_owned).to_vec() } else { req.hops };
        let request =
            shop_api::common::v1::TraceRequest { hops, hold_millis: req.hold_millis, ..Default::default() };
        Ok(view::trace(self.tracer.trace(cx, request).await?))
    }
}
