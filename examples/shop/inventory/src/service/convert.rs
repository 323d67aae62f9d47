//! Between the contract's messages (DTO) and the inventory's own types (DO).

use bowline::prelude::*;
use shop_api::inventory::v1;

use crate::biz::{ItemId, Line, Lines, Reservation, State, Stock};

impl From<Stock> for v1::Stock {
    fn from(stock: Stock) -> Self {
        Self {
            item_id: stock.item.to_string(),
            available: stock.available,
            reserved: stock.reserved,
            ..Default::default()
        }
    }
}

impl From<State> for v1::reservation::State {
    fn from(state: State) -> Self {
        match state {
            State::Held => Self::HELD,
            State::Confirmed => Self::CONFIRMED,
            State::Released => Self::RELEASED,
        }
    }
}

impl From<Reservation> for v1::Reservation {
    fn from(reservation: Reservation) -> Self {
        let line = |(item, quantity): (&ItemId, i64)| v1::Line {
            item_id: item.to_string(),
            quantity,
            ..Default::default()
        };
        Self {
            reservation_id: reservation.id.to_string(),
            lines: reservation.lines.iter().map(line).collect(),
            state: v1::reservation::State::from(reservation.state).into(),
            ..Default::default()
        }
    }
}

pub(super) fn items(ids: Vec<String>) -> Result<Vec<ItemId>> {
    ids.into_iter().map(ItemId::new).collect()
}

pub(super) fn lines(lines: Vec<v1::Line>) -> Result<Lines> {
    let line = |line: v1::Line| Ok(Line { item: ItemId::new(line.item_id)?, quantity: line.quantity });
    Lines::new(lines.into_iter().map(line).collect::<Result<Vec<_>>>()?)
}
