//! The inventory as its service asks it.

use std::collections::HashMap;

use bowline::prelude::*;
use shop_api::inventory::v1::inventory_error;

use super::decide::{self, Decision, unknown};
use super::{ItemId, Lines, Reservation, ReservationId, Stock};

/// The most items of one batch.
pub const MAX_BATCH: usize = 100;

/// Where stock and reservations are kept.
pub trait Ledger: Send + Sync + 'static {
    /// The stock of these items, in any order, without those that are unknown.
    fn stock(&self, cx: &Context, items: &[ItemId]) -> impl Future<Output = Result<Vec<Stock>>> + Send;

    /// Reads the reservation, if there is one, and the stock of `items` and of its own; lets `decide`; stores what was
    /// decided. All as if nobody else did anything meanwhile.
    fn change(
        &self,
        cx: &Context,
        id: &ReservationId,
        items: &[ItemId],
        decide: impl FnOnce(Option<Reservation>, Vec<Stock>) -> Result<Decision> + Send,
    ) -> impl Future<Output = Result<Reservation>> + Send;
}

/// The shop's stock.
#[derive(Debug)]
pub struct Inventory<L> {
    ledger: L,
}

impl<L: Ledger> Inventory<L> {
    /// An inventory over a ledger.
    pub fn new(ledger: L) -> Self {
        Self { ledger }
    }

    /// The stock of one item.
    ///
    /// # Errors
    /// `UNKNOWN_ITEM`; what the ledger answers.
    pub async fn stock(&self, cx: &Context, item: &ItemId) -> Result<Stock> {
        let found = self.ledger.stock(cx, std::slice::from_ref(item)).await?;
        found.into_iter().next().ok_or_else(|| unknown(item))
    }

    /// The stock of some items, each once, in the order asked for; without those that are unknown.
    ///
    /// # Errors
    /// `TOO_MANY_IDS`; what the ledger answers.
    pub async fn batch(&self, cx: &Context, items: &[ItemId]) -> Result<Vec<Stock>> {
        if items.len() > MAX_BATCH {
            let message =
                format!("{} ids are more than the {MAX_BATCH} of one call; ask in parts", items.len());
            return Err(inventory_error::too_many_ids().with_message(message));
        }
        let found = self.ledger.stock(cx, items).await?;
        let mut found: HashMap<_, _> = found.into_iter().map(|stock| (stock.item.clone(), stock)).collect();
        Ok(items.iter().filter_map(|item| found.remove(item)).collect())
    }

    /// See [`decide::reserve`].
    ///
    /// # Errors
    /// Its own; what the ledger answers.
    pub async fn reserve(&self, cx: &Context, id: &ReservationId, lines: &Lines) -> Result<Reservation> {
        let items: Vec<_> = lines.items().cloned().collect();
        let decide = |existing, stock| decide::reserve(id, lines, existing, stock);
        self.ledger.change(cx, id, &items, decide).await
    }

    /// See [`decide::confirm`].
    ///
    /// # Errors
    /// Its own; what the ledger answers.
    pub async fn confirm(&self, cx: &Context, id: &ReservationId) -> Result<Reservation> {
        self.ledger.change(cx, id, &[], |existing, stock| decide::confirm(id, existing, stock)).await
    }

    /// See [`decide::release`].
    ///
    /// # Errors
    /// What the ledger answers.
    pub async fn release(&self, cx: &Context, id: &ReservationId) -> Result<Reservation> {
        self.ledger.change(cx, id, &[], |existing, stock| decide::release(id, existing, stock)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::Line;
    use super::*;

    /// A ledger in memory.
    #[derive(Default)]
    struct Book(Mutex<(HashMap<ItemId, Stock>, HashMap<ReservationId, Reservation>)>);

    impl Ledger for Book {
        async fn stock(&self, _cx: &Context, items: &[ItemId]) -> Result<Vec<Stock>> {
            let book = self.0.lock().unwrap();
            Ok(items.iter().filter_map(|item| book.0.get(item).cloned()).collect())
        }

        async fn change(
            &self,
            _cx: &Context,
            id: &ReservationId,
            items: &[ItemId],
            decide: impl FnOnce(Option<Reservation>, Vec<Stock>) -> Result<Decision> + Send,
        ) -> Result<Reservation> {
            let mut book = self.0.lock().unwrap();
            let existing = book.1.get(id).cloned();
            let own = existing.iter().flat_map(|r| r.lines.items());
            let stock = items.iter().chain(own).filter_map(|item| book.0.get(item).cloned()).collect();
            match decide(existing, stock)? {
                Decision::Keep(reservation) => Ok(reservation),
                Decision::Store(reservation, stock) => {
                    book.0.extend(stock.into_iter().map(|stock| (stock.item.clone(), stock)));
                    book.1.insert(id.clone(), reservation.clone());
                    Ok(reservation)
                }
            }
        }
    }

    fn item(id: &str) -> ItemId {
        ItemId::new(id).unwrap()
    }

    fn inventory() -> Inventory<Book> {
        let book = Book::default();
        let stock = |id| (item(id), Stock { item: item(id), available: 3, reserved: 0 });
        book.0.lock().unwrap().0.extend([stock("a"), stock("b")]);
        Inventory::new(book)
    }

    #[tokio::test]
    async fn a_refused_reservation_leaves_everything_as_it_was() {
        let (cx, inventory) = (Context::background(), inventory());
        let id = ReservationId::new("r").unwrap();
        let line = |id, quantity| Line { item: item(id), quantity };
        let too_much = Lines::new([line("a", 1), line("b", 4)]).unwrap();
        assert!(inventory.reserve(&cx, &id, &too_much).await.is_err());
        assert_eq!(inventory.stock(&cx, &item("a")).await.unwrap().available, 3);
        inventory.reserve(&cx, &id, &Lines::new([line("a", 1)]).unwrap()).await.unwrap();
        inventory.confirm(&cx, &id).await.unwrap();
        inventory.release(&cx, &id).await.unwrap();
        assert_eq!(inventory.stock(&cx, &item("a")).await.unwrap().available, 3);
    }

    #[tokio::test]
    async fn a_batch_leaves_out_what_is_unknown() {
        let (cx, inventory) = (Context::background(), inventory());
        let stock = inventory.batch(&cx, &[item("b"), item("x"), item("a")]).await.unwrap();
        assert_eq!(stock.into_iter().map(|s| s.item).collect::<Vec<_>>(), [item("b"), item("a")]);
        assert!(inventory_error::is_unknown_item(&inventory.stock(&cx, &item("x")).await.unwrap_err()));
        let too_many = vec![item("a"); MAX_BATCH + 1];
        assert!(inventory_error::is_too_many_ids(&inventory.batch(&cx, &too_many).await.unwrap_err()));
    }
}
