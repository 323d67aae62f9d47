//! Rows (PO), and the inventory's own types (DO).

use bowline::prelude::*;
use sqlx::FromRow;

use crate::biz::{ItemId, Line, State, Stock};

/// A row of the table `stock`.
#[derive(Debug, FromRow)]
pub(super) struct StockPo {
    item_id: String,
    available: i64,
    reserved: i64,
}

/// A row of the table `reservation_lines`.
#[derive(Debug, FromRow)]
pub(super) struct LinePo {
    item_id: String,
    quantity: i64,
}

impl TryFrom<StockPo> for Stock {
    type Error = Error;

    fn try_from(po: StockPo) -> Result<Self> {
        Ok(Self { item: item(&po.item_id)?, available: po.available, reserved: po.reserved })
    }
}

impl TryFrom<LinePo> for Line {
    type Error = Error;

    fn try_from(po: LinePo) -> Result<Self> {
        Ok(Self { item: item(&po.item_id)?, quantity: po.quantity })
    }
}

fn item(id: &str) -> Result<ItemId> {
    ItemId::new(id)
        .map_err(|e| Error::new(Code::DataLoss, format!("`{id}` is stored as an item")).with_source(e))
}

/// The state as it is stored.
pub(super) fn state_to_text(state: State) -> &'static str {
    match state {
        State::Held => "HELD",
        State::Confirmed => "CONFIRMED",
        State::Released => "RELEASED",
    }
}

pub(super) fn state_from_text(text: &str) -> Result<State> {
    match text {
        "HELD" => Ok(State::Held),
        "CONFIRMED" => Ok(State::Confirmed),
        "RELEASED" => Ok(State::Released),
        _ => Err(Error::new(Code::DataLoss, format!("`{text}` is stored as a reservation's state"))),
    }
}
