//! The rules: what becomes of a reservation and of the stock it is about. Plain functions of what there is, so that
//! whoever stores it can call them within a transaction.
//!
//! ```text
//! (none) ── reserve ──► held ── confirm ──► confirmed
//!    │                   │                      │
//!    └──── release ──────┴────── release ───────┴──► released, for good
//! ```

use std::collections::HashMap;

use bowline::prelude::*;
use shop_api::inventory::v1::inventory_error;

use super::{ItemId, Lines, Reservation, ReservationId, State, Stock};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it is so already.
    Keep(Reservation),
    /// Store this reservation, and this stock of the items that it changes.
    Store(Reservation, Vec<Stock>),
}

/// Reserves `lines`, all of them or none. What is reserved already under the same id stays as it is.
///
/// # Errors
/// `OUT_OF_STOCK`, `UNKNOWN_ITEM`, `RESERVATION_CONFLICT`, `RESERVATION_RELEASED`.
pub fn reserve(
    id: &ReservationId,
    lines: &Lines,
    existing: Option<Reservation>,
    stock: Vec<Stock>,
) -> Result<Decision> {
    match existing {
        Some(Reservation { state: State::Released, .. }) => Err(released(id)),
        Some(other) if other.lines != *lines => {
            let message = format!("reservation {id} exists with other lines; choose another id");
            Err(inventory_error::reservation_conflict().with_message(message))
        }
        Some(same) => Ok(Decision::Keep(same)),
        None => {
            let stock = change(lines, stock, |stock, quantity| {
                stock.available -= quantity;
                stock.reserved += quantity;
                if stock.available >= 0 { Ok(()) } else { Err(out_of_stock(stock, quantity)) }
            })?;
            Ok(Decision::Store(
                Reservation { id: id.clone(), lines: lines.clone(), state: State::Held },
                stock,
            ))
        }
    }
}

/// Turns a held reservation into a sale.
///
/// # Errors
/// `RESERVATION_NOT_FOUND`, `RESERVATION_RELEASED`.
pub fn confirm(id: &ReservationId, existing: Option<Reservation>, stock: Vec<Stock>) -> Result<Decision> {
    let Some(reservation) = existing else {
        let message = format!("there is no reservation {id}");
        return Err(inventory_error::reservation_not_found().with_message(message));
    };
    match reservation.state {
        State::Released => Err(released(id)),
        State::Confirmed => Ok(Decision::Keep(reservation)),
        State::Held => {
            let stock = change(&reservation.lines, stock, |stock, quantity| {
                stock.reserved -= quantity;
                Ok(())
            })?;
            Ok(Decision::Store(Reservation { state: State::Confirmed, ..reservation }, stock))
        }
    }
}

/// Gives back what a reservation holds or has sold. One that is not there is noted as released, so that it takes no stock
/// when it arrives after all.
///
/// # Errors
/// None by the rules; if the stock of its items is gone.
pub fn release(id: &ReservationId, existing: Option<Reservation>, stock: Vec<Stock>) -> Result<Decision> {
    let Some(reservation) = existing else {
        let nothing = Reservation { id: id.clone(), lines: Lines::default(), state: State::Released };
        return Ok(Decision::Store(nothing, Vec::new()));
    };
    let was = reservation.state;
    if was == State::Released {
        return Ok(Decision::Keep(reservation));
    }
    let stock = change(&reservation.lines, stock, |stock, quantity| {
        stock.available += quantity;
        if was == State::Held {
            stock.reserved -= quantity;
        }
        Ok(())
    })?;
    Ok(Decision::Store(Reservation { state: State::Released, ..reservation }, stock))
}

/// The stock of each line's item, changed.
fn change(
    lines: &Lines,
    stock: Vec<Stock>,
    mut change: impl FnMut(&mut Stock, i64) -> Result<()>,
) -> Result<Vec<Stock>> {
    let mut stock: HashMap<ItemId, Stock> = stock.into_iter().map(|s| (s.item.clone(), s)).collect();
    let mut changed = Vec::new();
    for (item, quantity) in lines.iter() {
        let mut of_item = stock.remove(item).ok_or_else(|| unknown(item))?;
        change(&mut of_item, quantity)?;
        changed.push(of_item);
    }
    Ok(changed)
}

pub(super) fn unknown(item: &ItemId) -> Error {
    let message = format!("there is no stock of an item {item}");
    inventory_error::unknown_item().with_message(message).with_metadata("item_id", item.as_str())
}

fn released(id: &ReservationId) -> Error {
    let message = format!("reservation {id} was released; choose another id");
    inventory_error::reservation_released().with_message(message)
}

/// For stock from which `quantity` was taken although there was not enough.
fn out_of_stock(stock: &Stock, quantity: i64) -> Error {
    let available = stock.available + quantity;
    inventory_error::out_of_stock()
        .with_message(format!("{quantity} of item {} were asked for, {available} are available", stock.item))
        .with_metadata("item_id", stock.item.as_str())
        .with_metadata("requested", quantity.to_string())
        .with_metadata("available", available.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Line;
    use super::*;

    fn item(id: &str) -> ItemId {
        ItemId::new(id).unwrap()
    }

    fn stock(id: &str, available: i64, reserved: i64) -> Stock {
        Stock { item: item(id), available, reserved }
    }

    fn lines(lines: &[(&str, i64)]) -> Lines {
        Lines::new(lines.iter().map(|(id, quantity)| Line { item: item(id), quantity: *quantity })).unwrap()
    }

    fn id() -> ReservationId {
        ReservationId::new("r").unwrap()
    }

    fn reservation(state: State) -> Option<Reservation> {
        Some(Reservation { id: id(), lines: lines(&[("a", 2)]), state })
    }

    fn stored(decision: Result<Decision>) -> (State, Vec<Stock>) {
        match decision.unwrap() {
            Decision::Store(reservation, stock) => (reservation.state, stock),
            Decision::Keep(kept) => panic!("kept {kept:?}"),
        }
    }

    #[test]
    fn stock_moves_from_available_to_reserved_to_gone_and_back() {
        let reserved = reserve(&id(), &lines(&[("a", 2)]), None, vec![stock("a", 5, 1)]);
        assert_eq!(stored(reserved), (State::Held, vec![stock("a", 3, 3)]));
        let confirmed = confirm(&id(), reservation(State::Held), vec![stock("a", 3, 3)]);
        assert_eq!(stored(confirmed), (State::Confirmed, vec![stock("a", 3, 1)]));
        let given_back = release(&id(), reservation(State::Held), vec![stock("a", 3, 3)]);
        assert_eq!(stored(given_back), (State::Released, vec![stock("a", 5, 1)]));
        let returned = release(&id(), reservation(State::Confirmed), vec![stock("a", 3, 1)]);
        assert_eq!(stored(returned), (State::Released, vec![stock("a", 5, 1)]));
    }

    #[test]
    fn one_line_too_many_refuses_them_all_and_is_named() {
        let there = vec![stock("a", 5, 0), stock("b", 1, 7)];
        let error = reserve(&id(), &lines(&[("a", 5), ("b", 2)]), None, there).unwrap_err();
        assert!(inventory_error::is_out_of_stock(&error));
        let facts: Vec<_> = error.metadata().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(facts, [("available", "1"), ("item_id", "b"), ("requested", "2")]);
        let error = reserve(&id(), &lines(&[("c", 1)]), None, vec![]).unwrap_err();
        assert!(inventory_error::is_unknown_item(&error) && error.metadata()["item_id"] == "c");
    }

    #[test]
    fn doing_it_twice_is_doing_it_once() {
        let keeps = |decision: Result<Decision>| matches!(decision.unwrap(), Decision::Keep(_));
        let there = || vec![stock("a", 0, 0)];
        for state in [State::Held, State::Confirmed] {
            assert!(keeps(reserve(&id(), &lines(&[("a", 2)]), reservation(state), there())));
        }
        assert!(keeps(confirm(&id(), reservation(State::Confirmed), there())));
        assert!(keeps(release(&id(), reservation(State::Released), there())));
    }

    #[test]
    fn an_id_means_one_set_of_lines() {
        let error = reserve(&id(), &lines(&[("a", 3)]), reservation(State::Held), vec![]).unwrap_err();
        assert!(inventory_error::is_reservation_conflict(&error) && error.is_conflict());
    }

    #[test]
    fn released_is_final_even_before_it_was_reserved() {
        let (state, stock) = stored(release(&id(), None, vec![]));
        assert_eq!((state, stock), (State::Released, vec![]));
        let gone = || Some(Reservation { id: id(), lines: Lines::default(), state: State::Released });
        for refused in [reserve(&id(), &lines(&[("a", 2)]), gone(), vec![]), confirm(&id(), gone(), vec![])] {
            assert!(inventory_error::is_reservation_released(&refused.unwrap_err()));
        }
        let error = confirm(&id(), None, vec![]).unwrap_err();
        assert!(inventory_error::is_reservation_not_found(&error));
    }
}
