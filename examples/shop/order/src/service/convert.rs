//! Between the contract's messages (DTO) and the orders' own types (DO).

use bowline::prelude::*;
use shop_api::common::v1::Money;
use shop_api::order::v1::{self, order, order_error};
use shop_common::PageSize;

use crate::biz::{ItemId, Line, Order, OrderId, State, Wanted};

impl From<State> for order::State {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::PENDING,
            State::Placed => Self::PLACED,
            State::Cancelled => Self::CANCELLED,
            State::Abandoned => Self::ABANDONED,
        }
    }
}

impl From<Line> for v1::OrderLine {
    fn from(line: Line) -> Self {
        Self {
            item_id: line.item.to_string(),
            title: line.title,
            quantity: line.quantity,
            unit_price: Money::from(line.unit_price).into(),
            ..Default::default()
        }
    }
}

impl TryFrom<Order> for v1::Order {
    type Error = Error;

    fn try_from(order: Order) -> Result<Self> {
        Ok(Self {
            total: Money::from(order.total()?).into(),
            id: order.id.to_string(),
            customer_id: order.customer.to_string(),
            lines: order.lines.into_iter().map(v1::OrderLine::from).collect(),
            state: order::State::from(order.state).into(),
            created_at: Some(order.created_at.into()).into(),
            ..Default::default()
        })
    }
}

pub(super) fn wanted(lines: Vec<v1::LineRequest>) -> Result<Wanted> {
    let line = |line: v1::LineRequest| Ok((ItemId::new(line.item_id)?, line.quantity));
    Wanted::new(lines.into_iter().map(line).collect::<Result<Vec<_>>>()?)
}

pub(super) fn page_size(asked: i32) -> Result<PageSize> {
    PageSize::new(asked).ok_or_else(|| {
        let message = format!("page_size is {asked}; use 1 to 100, or 0 for the default");
        order_error::invalid_page_size().with_message(message)
    })
}

/// A token is the id of the last order of the page before.
pub(super) fn page_token(token: String) -> Result<Option<OrderId>> {
    if token.is_empty() {
        return Ok(None);
    }
    OrderId::new(token).map(Some).map_err(|e| order_error::invalid_page_token().with_source(e))
}
