//! Stock, and claims on it.

use std::collections::BTreeMap;
use std::fmt;

use bowline::prelude::*;
use shop_api::inventory::v1::inventory_error;

/// The most lines of one reservation.
const MAX_LINES: usize = 100;
/// The most of one item in one reservation.
const MAX_QUANTITY: i64 = 1_000_000;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks that `id` is one: 1 to 100 letters, digits, `-`, `_` and `.` of ASCII.
            ///
            /// # Errors
            /// `INVALID_RESERVATION`.
            pub fn new(id: impl Into<String>) -> Result<Self> {
                let id = id.into();
                let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                if (1..=100).contains(&id.len()) && id.bytes().all(valid) {
                    return Ok(Self(id));
                }
                let id = id.escape_debug();
                let message = format!(concat!("`{}` is no ", $what, "'s id: 1 to 100 of a-z, A-Z, 0-9, -, _ and ."), id);
                Err(inventory_error::invalid_reservation().with_message(message))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Names an item. What it is, the catalog knows.
    ItemId, "item"
}

name! {
    /// Names a reservation: its maker chooses.
    ReservationId, "reservation"
}

/// How much there is of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    /// Of which.
    pub item: ItemId,
    /// What can be reserved.
    pub available: i64,
    /// What is set aside.
    pub reserved: i64,
}

/// So much of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of which.
    pub item: ItemId,
    /// How much.
    pub quantity: i64,
}

/// What a reservation is of: at least one line, each item once, by item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<ItemId, i64>);

impl Lines {
    /// Checks that `lines` can be reserved.
    ///
    /// # Errors
    /// `INVALID_RESERVATION`.
    pub fn new(lines: impl IntoIterator<Item = Line>) -> Result<Self> {
        let invalid = |message: String| Err(inventory_error::invalid_reservation().with_message(message));
        let mut all = BTreeMap::new();
        for Line { item, quantity } in lines {
            if !(1..=MAX_QUANTITY).contains(&quantity) {
                return invalid(format!(
                    "{quantity} of {item} cannot be reserved; ask for 1 to {MAX_QUANTITY}"
                ));
            }
            if let Some(first) = all.insert(item.clone(), quantity) {
                return invalid(format!(
                    "{item} stands in two lines, of {first} and {quantity}; add them up"
                ));
            }
        }
        match all.len() {
            1..=MAX_LINES => Ok(Self(all)),
            count => invalid(format!("{count} lines cannot be reserved; ask for 1 to {MAX_LINES}")),
        }
    }

    /// Each line, by item.
    pub fn iter(&self) -> impl Iterator<Item = (&ItemId, i64)> {
        self.0.iter().map(|(item, quantity)| (item, *quantity))
    }

    /// The items.
    pub fn items(&self) -> impl Iterator<Item = &ItemId> {
        self.0.keys()
    }

    /// Lines that were checked when they were stored.
    pub(crate) fn stored(lines: impl IntoIterator<Item = Line>) -> Self {
        Self(lines.into_iter().map(|line| (line.item, line.quantity)).collect())
    }
}

/// What has become of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its stock is set aside.
    Held,
    /// Its stock is sold.
    Confirmed,
    /// Its stock is given back, for good.
    Released,
}

/// A claim on stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whose.
    pub id: ReservationId,
    /// On what. Nothing, if it was released before it arrived.
    pub lines: Lines,
    /// What has become of it.
    pub state: State,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(item: &str, quantity: i64) -> Line {
        Line { item: ItemId::new(item).unwrap(), quantity }
    }

    #[test]
    fn lines_are_few_positive_and_of_different_items() {
        assert_eq!(Lines::new([line("b", 2), line("a", 1)]).unwrap().items().count(), 2);
        let many = (0..101).map(|n| line(&n.to_string(), 1)).collect();
        for wrong in [vec![], vec![line("a", 0)], vec![line("a", -1)], vec![line("a", 1), line("a", 2)], many]
        {
            assert!(inventory_error::is_invalid_reservation(&Lines::new(wrong).unwrap_err()));
        }
    }

    #[test]
    fn the_order_of_lines_does_not_matter() {
        let [a, b] =
            [[line("a", 1), line("b", 2)], [line("b", 2), line("a", 1)]].map(|l| Lines::new(l).unwrap());
        assert_eq!(a, b);
    }

    #[test]
    fn an_id_is_plain() {
        for wrong in ["", "a b", "a/b", "é", &"x".repeat(101)] {
            assert!(ReservationId::new(wrong).is_err(), "{wrong}");
        }
    }
}
