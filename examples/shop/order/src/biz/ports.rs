//! What placing orders needs of others.

use std::time::SystemTime;

use bowline::prelude::*;
use shop_common::Money;

use super::{CustomerId, IdempotencyKey, ItemId, Order, OrderId};

/// Where orders are kept.
pub trait OrderRepository: Send + Sync + 'static {
    /// The order with this id.
    fn find(&self, cx: &Context, id: &OrderId) -> impl Future<Output = Result<Option<Order>>> + Send;

    /// The customer's order with this key.
    fn find_by_key(
        &self,
        cx: &Context,
        customer: &CustomerId,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<Option<Order>>> + Send;

    /// The customer's first `limit` orders that were placed or cancelled, the newest first, before `before`.
    fn list(
        &self,
        cx: &Context,
        customer: &CustomerId,
        before: Option<&OrderId>,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Order>>> + Send;

    /// Some orders that are not settled and have not changed since `before`, the oldest first.
    fn unsettled(&self, cx: &Context, before: SystemTime) -> impl Future<Output = Result<Vec<Order>>> + Send;

    /// Stores a new order, unless the customer has one with its key; then that one is the answer.
    fn insert(&self, cx: &Context, order: &Order) -> impl Future<Output = Result<Order>> + Send;

    /// Stores an order that was changed, if nobody has changed it since it was read; whether that was so.
    fn update(&self, cx: &Context, order: &Order) -> impl Future<Output = Result<bool>> + Send;
}

/// What the shop asks for an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Of which.
    pub item: ItemId,
    /// Its title.
    pub title: String,
    /// The price of one.
    pub price: Money,
}

/// Who knows prices.
pub trait Prices: Send + Sync + 'static {
    /// The offers for these items, without those that are not sold.
    fn offers(&self, cx: &Context, items: &[ItemId]) -> impl Future<Output = Result<Vec<Offer>>> + Send;
}

/// Who knows stock. Doing something twice is doing it once; what is released stays released.
pub trait Stock: Send + Sync + 'static {
    /// Sets aside what the order's attempt needs.
    fn reserve(&self, cx: &Context, order: &Order) -> impl Future<Output = Result<()>> + Send;

    /// Sells what was set aside.
    fn confirm(&self, cx: &Context, order: &Order) -> impl Future<Output = Result<()>> + Send;

    /// Takes back what was set aside or sold.
    fn release(&self, cx: &Context, order: &Order) -> impl Future<Output = Result<()>> + Send;
}
