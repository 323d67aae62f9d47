//! What services answer (their DTO), as apps see it (ours).

use shop_api::interface::v1::{
    Availability, Hop, ItemCard, ItemDetails, LineRequest, Money, Order, OrderLine, OrderSummary, TraceReply,
};
use shop_api::{catalog, common, inventory, order};

/// What is left of an item is told up to here.
const MOST_LEFT: i64 = 10;

fn money(money: common::v1::Money) -> Money {
    Money { currency_code: money.currency_code, units: money.units, ..Default::default() }
}

pub(super) fn card(item: catalog::v1::Item) -> ItemCard {
    ItemCard {
        id: item.id,
        title: item.title,
        language: item.language,
        price: item.price.map(money).into(),
        ..Default::default()
    }
}

pub(super) fn details(item: catalog::v1::Item) -> ItemDetails {
    ItemDetails {
        id: item.id,
        title: item.title,
        description: item.description,
        category: item.category,
        language: item.language,
        price: item.price.map(money).into(),
        ..Default::default()
    }
}

pub(super) fn availability(stock: inventory::v1::Stock) -> Availability {
    Availability {
        item_id: stock.item_id,
        in_stock: stock.available > 0,
        left: stock.available.min(MOST_LEFT),
        ..Default::default()
    }
}

pub(super) fn summary(order: order::v1::Order) -> OrderSummary {
    OrderSummary {
        id: order.id,
        state: order.state.to_string(),
        total: order.total.map(money).into(),
        created_at: order.created_at,
        ..Default::default()
    }
}

pub(super) fn order(order: order::v1::Order) -> Order {
    Order {
        id: order.id,
        customer_id: order.customer_id,
        state: order.state.to_string(),
        lines: order.lines.into_iter().map(line).collect(),
        total: order.total.map(money).into(),
        created_at: order.created_at,
        ..Default::default()
    }
}

fn line(line: order::v1::OrderLine) -> OrderLine {
    OrderLine {
        item_id: line.item_id,
        title: line.title,
        quantity: line.quantity,
        unit_price: line.unit_price.map(money).into(),
        ..Default::default()
    }
}

/// What an app wants of an item, as the order service takes it.
pub(super) fn wanted(line: LineRequest) -> order::v1::LineRequest {
    order::v1::LineRequest { item_id: line.item_id, quantity: line.quantity, ..Default::default() }
}

pub(super) fn trace(reply: common::v1::TraceReply) -> TraceReply {
    let hop = |hop: common::v1::Hop| Hop {
        service: hop.service,
        remaining_millis: hop.remaining_millis,
        ..Default::default()
    };
    TraceReply { hops: reply.hops.into_iter().map(hop).collect(), ..Default::default() }
}
