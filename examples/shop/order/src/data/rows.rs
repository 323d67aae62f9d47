//! Rows (PO), and orders (DO).

use std::time::{Duration, SystemTime};

use bowline::prelude::*;
use shop_common::Money;
use sqlx::FromRow;

use crate::biz::{CustomerId, IdempotencyKey, ItemId, Line, Order, OrderId, State};

/// A row of the table `orders`.
#[derive(Debug, FromRow)]
pub(super) struct OrderPo {
    pub(super) id: String,
    customer_id: String,
    idempotency_key: String,
    state: String,
    attempt: i64,
    settled: bool,
    version: i64,
    created_at: i64,
}

/// A row of the table `order_lines`.
#[derive(Debug, FromRow)]
pub(super) struct LinePo {
    pub(super) order_id: String,
    item_id: String,
    title: String,
    quantity: i64,
    currency: String,
    unit_price: i64,
}

impl OrderPo {
    /// The order, with its lines.
    pub(super) fn with_lines(self, lines: Vec<LinePo>) -> Result<Order> {
        let id = self.id.clone();
        self.order(lines).map_err(|e| {
            Error::new(Code::DataLoss, format!("order {id} is not stored as an order: {e}")).with_source(e)
        })
    }

    fn order(self, lines: Vec<LinePo>) -> Result<Order> {
        Ok(Order {
            id: OrderId::new(self.id)?,
            customer: CustomerId::new(self.customer_id)?,
            key: IdempotencyKey::new(self.idempotency_key)?,
            lines: lines.into_iter().map(Line::try_from).collect::<Result<_>>()?,
            state: state_from_text(&self.state)?,
            attempt: self.attempt,
            settled: self.settled,
            version: self.version,
            created_at: time_from_millis(self.created_at),
        })
    }
}

impl TryFrom<LinePo> for Line {
    type Error = Error;

    fn try_from(po: LinePo) -> Result<Self> {
        let unit_price = Money::new(&po.currency, po.unit_price);
        Ok(Self {
            item: ItemId::new(po.item_id)?,
            title: po.title,
            quantity: po.quantity,
            unit_price: unit_price
                .ok_or_else(|| Error::internal(format!("`{}` is no currency", po.currency)))?,
        })
    }
}

/// The state as it is stored.
pub(super) fn state_to_text(state: State) -> &'static str {
    match state {
        State::Pending => "PENDING",
        State::Placed => "PLACED",
        State::Cancelled => "CANCELLED",
        State::Abandoned => "ABANDONED",
    }
}

fn state_from_text(text: &str) -> Result<State> {
    match text {
        "PENDING" => Ok(State::Pending),
        "PLACED" => Ok(State::Placed),
        "CANCELLED" => Ok(State::Cancelled),
        "ABANDONED" => Ok(State::Abandoned),
        _ => Err(Error::internal(format!("`{text}` is no state"))),
    }
}

/// Milliseconds since 1970, as times are stored.
pub(super) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time_from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
