//! What services answer (their DTO), as apps see it (ours).

use shop_api::{catalog, common, inventory, order};

use crate::api::shop::common::v1::{Hop, Money, TraceReply};
use crate::api::shop::interface::v1::{
    Availability, ItemCard, ItemDetails, LineRequest, Order, OrderLine, OrderSummary,
};

/// What is left of an item is told up to here.
const MOST_LEFT: i64 = 10;

impl From<common::v1::Money> for Money {
    fn from(money: common::v1::Money) -> Self {
        Self { currency_code: money.currency_code, units: money.units, ..Default::default() }
    }
}

impl From<catalog::v1::Item> for ItemCard {
    fn from(item: catalog::v1::Item) -> Self {
        Self {
            id: item.id,
            title: item.title,
            language: item.language,
            price: item.price.map(Money::from).into(),
            ..Default::default()
        }
    }
}

impl From<catalog::v1::Item> for ItemDetails {
    fn from(item: catalog::v1::Item) -> Self {
        Self {
            id: item.id,
            title: item.title,
            description: item.description,
            category: item.category,
            language: item.language,
            price: item.price.map(Money::from).into(),
            ..Default::default()
        }
    }
}

impl From<inventory::v1::Stock> for Availability {
    fn from(stock: inventory::v1::Stock) -> Self {
        Self {
            item_id: stock.item_id,
            in_stock: stock.available > 0,
            left: stock.available.min(MOST_LEFT),
            ..Default::default()
        }
    }
}

impl From<order::v1::Order> for OrderSummary {
    fn from(order: order::v1::Order) -> Self {
        Self {
            id: order.id,
            state: order.state.to_string(),
            total: order.total.map(Money::from).into(),
            created_at: order.created_at,
            ..Default::default()
        }
    }
}

impl From<order::v1::Order> for Order {
    fn from(order: order::v1::Order) -> Self {
        Self {
            id: order.id,
            customer_id: order.customer_id,
            state: order.state.to_string(),
            lines: order.lines.into_iter().map(OrderLine::from).collect(),
            total: order.total.map(Money::from).into(),
            created_at: order.created_at,
            ..Default::default()
        }
    }
}

impl From<order::v1::OrderLine> for OrderLine {
    fn from(line: order::v1::OrderLine) -> Self {
        Self {
            item_id: line.item_id,
            title: line.title,
            quantity: line.quantity,
            unit_price: line.unit_price.map(Money::from).into(),
            ..Default::default()
        }
    }
}

impl From<LineRequest> for order::v1::LineRequest {
    fn from(line: LineRequest) -> Self {
        Self { item_id: line.item_id, quantity: line.quantity, ..Default::default() }
    }
}

impl From<common::v1::TraceReply> for TraceReply {
    fn from(reply: common::v1::TraceReply) -> Self {
        let hop = |hop: common::v1::Hop| Hop {
            service: hop.service,
            remaining_millis: hop.remaining_millis,
            ..Default::default()
        };
        Self { hops: reply.hops.into_iter().map(hop).collect(), ..Default::default() }
    }
}
