//! An order, and how it may change.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use bowline::core::{Rng, SystemRng};
use bowline::prelude::*;
use shop_api::order::v1::order_error;
use shop_common::Money;

use super::Offer;

const MAX_LINES: usize = 50;
const MAX_QUANTITY: i64 = 1_000_000;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks that `text` is one: 1 to 100 characters that can be seen, of ASCII.
            ///
            /// # Errors
            /// `INVALID_ORDER`.
            pub fn new(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                if (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
                    return Ok(Self(text));
                }
                let text = text.escape_debug();
                Err(invalid(format!(concat!("`{}` is no ", $what, ": 1 to 100 of the visible ASCII characters"), text)))
            }

            /// As text.
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
    /// Names an order. Ids sort by when they were made.
    OrderId, "order's id"
}
name! {
    /// Names a customer.
    CustomerId, "customer's id"
}
name! {
    /// Names an item, as the catalog and the inventory do.
    ItemId, "item's id"
}
name! {
    /// Names what a customer wants to happen once.
    IdempotencyKey, "idempotency key"
}

impl OrderId {
    fn generate(now: SystemTime) -> Self {
        let age = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(format!("order-{:012x}-{:016x}", age.as_millis(), SystemRng.next_u64()))
    }
}

fn invalid(message: String) -> Error {
    order_error::invalid_order().with_message(message)
}

/// How much of which items: at least one, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(BTreeMap<ItemId, i64>);

impl Wanted {
    /// Adds up lines of the same item and checks that the whole can be ordered.
    ///
    /// # Errors
    /// `INVALID_ORDER`.
    pub fn new(lines: impl IntoIterator<Item = (ItemId, i64)>) -> Result<Self> {
        let mut wanted = BTreeMap::<_, i64>::new();
        for (item, quantity) in lines {
            let sum = wanted.get(&item).copied().unwrap_or(0).checked_add(quantity);
            match sum {
                Some(sum) if quantity >= 1 && sum <= MAX_QUANTITY => wanted.insert(item, sum),
                _ => {
                    return Err(invalid(format!(
                        "{quantity} of {item}; order 1 to {MAX_QUANTITY} of an item"
                    )));
                }
            };
        }
        match wanted.len() {
            1..=MAX_LINES => Ok(Self(wanted)),
            count => Err(invalid(format!("{count} different items; order 1 to {MAX_LINES} at a time"))),
        }
    }

    /// The items.
    pub fn items(&self) -> impl Iterator<Item = &ItemId> {
        self.0.keys()
    }
}

/// A line of an order: what was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of which item.
    pub item: ItemId,
    /// What it was called.
    pub title: String,
    /// How many.
    pub quantity: i64,
    /// What one cost.
    pub unit_price: Money,
}

/// Where an order is in its life.
///
/// ```text
/// pending ──► placed ──► cancelled
///    │ ▲
///    ▼ │ (the same request again)
/// abandoned
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Stored, to be reserved.
    Pending,
    /// Reserved: it stands.
    Placed,
    /// It stood, and no longer does.
    Cancelled,
    /// Given up while it was pending.
    Abandoned,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub id: OrderId,
    /// Whose it is.
    pub customer: CustomerId,
    /// What makes it one order, however often it is asked for.
    pub key: IdempotencyKey,
    /// What is ordered, by item.
    pub lines: Vec<Line>,
    /// Where it is in its life.
    pub state: State,
    /// Which attempt at placing it this is, from 1.
    pub attempt: i64,
    /// Whether the inventory has heard how the attempt ended.
    pub settled: bool,
    /// How often it was changed.
    pub version: i64,
    /// When it was made.
    pub created_at: SystemTime,
}

impl Order {
    /// A pending order of what is wanted, at the prices offered.
    ///
    /// # Errors
    /// `ITEM_NOT_SOLD` for what is not offered, `MIXED_CURRENCIES`, `INVALID_ORDER` if it costs more than can be counted.
    pub fn pending(
        customer: CustomerId,
        key: IdempotencyKey,
        wanted: &Wanted,
        offers: Vec<Offer>,
        now: SystemTime,
    ) -> Result<Self> {
        let mut offers: BTreeMap<_, _> =
            offers.into_iter().map(|offer| (offer.item.clone(), offer)).collect();
        let line = |(item, quantity): (&ItemId, &i64)| match offers.remove(item) {
            Some(Offer { title, price, .. }) => {
                Ok(Line { item: item.clone(), title, quantity: *quantity, unit_price: price })
            }
            None => Err(order_error::item_not_sold()
                .with_message(format!("item {item} is not sold"))
                .with_metadata("item_id", item.as_str())),
        };
        // To the millisecond, as it is stored.
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = now - Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000));
        let order = Self {
            id: OrderId::generate(now),
            customer,
            key,
            lines: wanted.0.iter().map(line).collect::<Result<_>>()?,
            state: State::Pending,
            attempt: 1,
            settled: false,
            version: 1,
            created_at: now,
        };
        order.total()?;
        Ok(order)
    }

    /// What it costs.
    ///
    /// # Errors
    /// `MIXED_CURRENCIES`; `INVALID_ORDER` if it is more than can be counted.
    pub fn total(&self) -> Result<Money> {
        let too_much = || invalid("the order costs more than can be counted".into());
        let mut total: Option<Money> = None;
        for line in &self.lines {
            let cost = line.unit_price.times(line.quantity).ok_or_else(too_much)?;
            total = Some(match total {
                None => cost,
                Some(sum) if sum.currency() == cost.currency() => sum.plus(cost).ok_or_else(too_much)?,
                Some(_) => return Err(order_error::mixed_currencies()),
            });
        }
        total.ok_or_else(|| invalid("the order has no lines".into()))
    }

    /// Whether it is what is wanted.
    pub fn is_of(&self, wanted: &Wanted) -> bool {
        self.lines.iter().map(|line| (&line.item, &line.quantity)).eq(wanted.0.iter())
    }

    /// What the inventory knows this attempt as.
    pub fn reservation(&self) -> String {
        format!("{}.{}", self.id, self.attempt)
    }

    /// The order, moved on. Whoever stores it has to find the version that this one was made of.
    pub(super) fn moved_to(&self, state: State) -> Self {
        Self { state, settled: false, version: self.version + 1, ..self.clone() }
    }

    /// The order, with the inventory told.
    pub(super) fn settled(&self) -> Self {
        Self { settled: true, version: self.version + 1, ..self.clone() }
    }

    /// The order, to be placed once more.
    pub(super) fn revived(&self) -> Self {
        Self { attempt: self.attempt + 1, ..self.moved_to(State::Pending) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str) -> ItemId {
        ItemId::new(id).unwrap()
    }

    fn offer(id: &str, currency: &str, units: i64) -> Offer {
        Offer { item: item(id), title: id.into(), price: Money::new(currency, units).unwrap() }
    }

    fn wanted(lines: &[(&str, i64)]) -> Result<Wanted> {
        Wanted::new(lines.iter().map(|(id, quantity)| (item(id), *quantity)))
    }

    fn pending(lines: &[(&str, i64)], offers: Vec<Offer>) -> Result<Order> {
        let (customer, key) = (CustomerId::new("c").unwrap(), IdempotencyKey::new("k").unwrap());
        Order::pending(customer, key, &wanted(lines)?, offers, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn lines_of_one_item_add_up_whatever_their_order() {
        let [a, b] = [&[("a", 1), ("b", 2), ("a", 3)], &[("b", 2), ("a", 4), ("b", 0)][..2]]
            .map(|l| wanted(l).unwrap());
        assert_eq!(a, b);
    }

    #[test]
    fn an_order_is_of_something_and_not_of_everything() {
        let many: Vec<_> = (0..51).map(|n| (item(&n.to_string()), 1)).collect();
        assert!(order_error::is_invalid_order(&Wanted::new(many).unwrap_err()));
        for wrong in [
            &[][..],
            &[("a", 0)],
            &[("a", -1)],
            &[("a", 1_000_001)],
            &[("a", 600_000), ("a", 400_001)],
            &[("a", i64::MAX)],
        ] {
            assert!(order_error::is_invalid_order(&wanted(wrong).unwrap_err()), "{wrong:?}");
        }
    }

    #[test]
    fn an_order_costs_the_sum_of_its_lines() {
        let order =
            pending(&[("a", 2), ("b", 1)], vec![offer("b", "EUR", 50), offer("a", "EUR", 250)]).unwrap();
        assert_eq!(order.total().unwrap(), Money::new("EUR", 550).unwrap());
        assert!(order.is_of(&wanted(&[("b", 1), ("a", 2)]).unwrap()));
        assert!(!order.is_of(&wanted(&[("a", 2)]).unwrap()));
    }

    #[test]
    fn what_has_no_price_or_another_currency_cannot_be_ordered() {
        let error = pending(&[("a", 2), ("b", 1)], vec![offer("a", "EUR", 250)]).unwrap_err();
        assert!(order_error::is_item_not_sold(&error) && error.metadata()["item_id"] == "b");
        let error =
            pending(&[("a", 2), ("b", 1)], vec![offer("a", "EUR", 1), offer("b", "JPY", 1)]).unwrap_err();
        assert!(order_error::is_mixed_currencies(&error));
        let error = pending(&[("a", 2)], vec![offer("a", "EUR", i64::MAX)]).unwrap_err();
        assert!(order_error::is_invalid_order(&error));
    }

    #[test]
    fn ids_sort_by_age_and_each_attempt_has_its_own_reservation() {
        let [old, new] = [1, 2].map(|s| OrderId::generate(SystemTime::UNIX_EPOCH + Duration::from_secs(s)));
        assert!(old < new);
        let order = pending(&[("a", 1)], vec![offer("a", "EUR", 1)]).unwrap();
        assert_ne!(order.reservation(), order.moved_to(State::Abandoned).revived().reservation());
    }
}
