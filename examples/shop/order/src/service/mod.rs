//! The contract `shop.order.v1.OrderService`, answered by the orders.

mod convert;

use std::sync::Arc;

use bowline::prelude::*;
use shop_api::common::v1::{TraceReply, TraceRequest};
use shop_api::order::v1::{
    CancelOrderRequest, GetOrderRequest, ListOrdersReply, ListOrdersRequest, Order, PlaceOrderRequest,
    order_service,
};
use shop_common::trace::Tracer;

use crate::biz::{CustomerId, IdempotencyKey, OrderId, OrderRepository, Orders, Page, Prices, Stock};
use convert::{page_size, page_token, wanted};

/// Answers what `shop.order.v1.OrderService` is asked.
#[derive(Debug)]
pub struct OrderService<R, P, S> {
    orders: Arc<Orders<R, P, S>>,
    tracer: Tracer,
}

impl<R: OrderRepository, P: Prices, S: Stock> OrderService<R, P, S> {
    /// Answers for these orders.
    pub fn new(orders: Arc<Orders<R, P, S>>, tracer: Tracer) -> Self {
        Self { orders, tracer }
    }
}

impl<R: OrderRepository, P: Prices, S: Stock> order_service::Service for OrderService<R, P, S> {
    async fn place_order(&self, cx: &Context, req: PlaceOrderRequest) -> Result<Order> {
        let (customer, key) = (CustomerId::new(req.customer_id)?, IdempotencyKey::new(req.idempotency_key)?);
        self.orders.place(cx, customer, key, wanted(req.lines)?).await?.try_into()
    }

    async fn get_order(&self, cx: &Context, req: GetOrderRequest) -> Result<Order> {
        self.orders.order(cx, &OrderId::new(req.id)?).await?.try_into()
    }

    async fn list_orders(&self, cx: &Context, req: ListOrdersRequest) -> Result<ListOrdersReply> {
        let customer = CustomerId::new(req.customer_id)?;
        let (size, before) = (page_size(req.page_size)?, page_token(req.page_token)?);
        let Page { orders, next } = self.orders.list(cx, &customer, size, before).await?;
        let orders = orders.into_iter().map(Order::try_from).collect::<Result<_>>()?;
        let next_page_token = next.map(|id| id.to_string()).unwrap_or_default();
        Ok(ListOrdersReply { orders, next_page_token, ..Default::default() })
    }

    async fn cancel_order(&self, cx: &Context, req: CancelOrderRequest) -> Result<Order> {
        self.orders.cancel(cx, &OrderId::new(req.id)?).await?.try_into()
    }

    async fn trace(&self, cx: &Context, req: TraceRequest) -> Result<TraceReply> {
        self.tracer.trace(cx, req).await
    }
}
