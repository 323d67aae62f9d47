//! Placing and cancelling orders, crash-safe.
//!
//! An order is stored, pending, before anything is reserved for it; it is placed once that is stored in turn; then the
//! inventory is told, and that is noted. After a crash at any point the same request goes on where the first one stopped, or
//! [`Orders::settle_all`] puts an end to it. Two invariants keep stock and orders in step:
//!
//! - Stock is only released for an order that can no longer be placed under the same reservation: its state has moved on,
//!   and every change names the version of the order that it is based on.
//! - An order that is not settled is on the list of [`Orders::settle_all`].

use std::time::{Duration, SystemTime};

use bowline::prelude::*;
use bowline::tracing;
use shop_api::inventory::v1::inventory_error;
use shop_api::order::v1::order_error;
use shop_common::PageSize;

use super::{CustomerId, IdempotencyKey, Order, OrderId, OrderRepository, Prices, State, Stock, Wanted};

/// How long to clean up after a request that failed, for which nobody waits any more.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// A part of a customer's orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The orders, the newest first.
    pub orders: Vec<Order>,
    /// After which order the next page begins; `None` on the last one.
    pub next: Option<OrderId>,
}

/// The shop's orders.
#[derive(Debug)]
pub struct Orders<R, P, S> {
    orders: R,
    prices: P,
    stock: S,
}

impl<R: OrderRepository, P: Prices, S: Stock> Orders<R, P, S> {
    /// The orders in a repository.
    pub fn new(orders: R, prices: P, stock: S) -> Self {
        Self { orders, prices, stock }
    }

    /// Places an order, once for each key of a customer.
    ///
    /// # Errors
    /// `IDEMPOTENCY_CONFLICT`, `ORDER_ABANDONED`; as [`Order::pending`]; what prices, stock and the repository answer. The
    /// same request again goes on where this one stopped.
    pub async fn place(
        &self,
        cx: &Context,
        customer: CustomerId,
        key: IdempotencyKey,
        wanted: Wanted,
    ) -> Result<Order> {
        let order = match self.orders.find_by_key(cx, &customer, &key).await? {
            Some(order) => order,
            None => {
                let items: Vec<_> = wanted.items().cloned().collect();
                let offers = self.prices.offers(cx, &items).await?;
                let order = Order::pending(customer, key, &wanted, offers, SystemTime::now())?;
                self.orders.insert(cx, &order).await?
            }
        };
        if !order.is_of(&wanted) {
            let message =
                format!("key {} was used for another order; use a new key for a new order", order.key);
            return Err(order_error::idempotency_conflict().with_message(message));
        }
        let order = if order.state == State::Abandoned { self.revive(cx, order).await? } else { order };
        if order.state != State::Pending {
            return Ok(order);
        }
        // What is refused here stays pending: the same request again may have more luck, and in the end it is abandoned.
        match self.stock.reserve(cx, &order).await {
            Ok(()) => self.finish(cx, &order).await,
            Err(error) if inventory_error::is_reservation_released(&error) => {
                self.outcome(cx, &order.id).await
            }
            Err(error) => Err(error),
        }
    }

    /// Makes an abandoned order pending again. What it had reserved is released first.
    async fn revive(&self, cx: &Context, order: Order) -> Result<Order> {
        let order = if order.settled { order } else { self.settle(cx, order).await? };
        let revived = order.revived();
        if self.orders.update(cx, &revived).await? { Ok(revived) } else { Err(abandoned()) }
    }

    /// Places an order for which everything is reserved.
    async fn finish(&self, cx: &Context, order: &Order) -> Result<Order> {
        let placed = order.moved_to(State::Placed);
        match self.orders.update(cx, &placed).await {
            Ok(true) => Ok(self.try_to_settle(cx, placed).await),
            Ok(false) => self.outcome(cx, &order.id).await,
            Err(error) => {
                self.give_up(cx, order).await;
                Err(error.context("storing that the order is placed"))
            }
        }
    }

    /// What became of an order that moved on while it was being placed: the same request, next to this one, was faster, or
    /// too much time has passed.
    async fn outcome(&self, cx: &Context, id: &OrderId) -> Result<Order> {
        match self.order(cx, id).await? {
            order if matches!(order.state, State::Placed | State::Cancelled) => Ok(order),
            _ => Err(abandoned()),
        }
    }

    /// Releases what was reserved for an order that could not be placed. If the order was placed after all, its version has
    /// moved on, and it stays as it is.
    async fn give_up(&self, cx: &Context, order: &Order) {
        let cx = cx.detached().with_timeout(CLEAN_UP);
        let abandoned = order.moved_to(State::Abandoned);
        match self.orders.update(&cx, &abandoned).await {
            Ok(true) => drop(self.try_to_settle(&cx, abandoned).await),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(order = %order.id, %error, "an order could not be given up; it will be later")
            }
        }
    }

    /// One order.
    ///
    /// # Errors
    /// `ORDER_NOT_FOUND`; what the repository answers.
    pub async fn order(&self, cx: &Context, id: &OrderId) -> Result<Order> {
        self.orders.find(cx, id).await?.ok_or_else(|| {
            let message = format!("there is no order {id}");
            order_error::order_not_found().with_message(message).with_metadata("order_id", id.as_str())
        })
    }

    /// A page of the orders that a customer has placed.
    ///
    /// # Errors
    /// What the repository answers.
    pub async fn list(
        &self,
        cx: &Context,
        customer: &CustomerId,
        size: PageSize,
        before: Option<OrderId>,
    ) -> Result<Page> {
        let mut orders = self.orders.list(cx, customer, before.as_ref(), size.and_one_more()).await?;
        let more = orders.len() > size.get();
        orders.truncate(size.get());
        let next = if more { orders.last().map(|order| order.id.clone()) } else { None };
        Ok(Page { orders, next })
    }

    /// Cancels a placed order. Its items go back to the inventory, at once or, if that is away, later.
    ///
    /// # Errors
    /// `ORDER_NOT_FOUND`, `ORDER_NOT_PLACED`; what the repository answers.
    pub async fn cancel(&self, cx: &Context, id: &OrderId) -> Result<Order> {
        loop {
            cx.check()?;
            let order = self.order(cx, id).await?;
            match order.state {
                State::Cancelled => return Ok(order),
                State::Placed => {}
                State::Pending | State::Abandoned => return Err(order_error::order_not_placed()),
            }
            let cancelled = order.moved_to(State::Cancelled);
            if self.orders.update(cx, &cancelled).await? {
                return Ok(self.try_to_settle(cx, cancelled).await);
            }
            // Settled meanwhile, or cancelled; each happens once, so this loop ends.
        }
    }

    /// Finishes orders that were left as they are for `after`: pending ones are abandoned, and the inventory is told of
    /// what it has not heard.
    ///
    /// # Errors
    /// What the repository answers. What the inventory answers is logged; the order's turn comes again.
    pub async fn settle_all(&self, cx: &Context, after: Duration) -> Result<()> {
        let before = SystemTime::now().checked_sub(after).unwrap_or(SystemTime::UNIX_EPOCH);
        for order in self.orders.unsettled(cx, before).await? {
            cx.check()?;
            let order = match order.state {
                State::Pending => {
                    let abandoned = order.moved_to(State::Abandoned);
                    if !self.orders.update(cx, &abandoned).await? {
                        continue;
                    }
                    abandoned
                }
                _ => order,
            };
            self.try_to_settle(cx, order).await;
        }
        Ok(())
    }

    /// Tells the inventory how the order's attempt ended, and notes it.
    async fn settle(&self, cx: &Context, order: Order) -> Result<Order> {
        match order.state {
            State::Pending => return Ok(order),
            State::Placed => self.stock.confirm(cx, &order).await?,
            State::Cancelled | State::Abandoned => self.stock.release(cx, &order).await?,
        }
        let settled = order.settled();
        // If it has moved on meanwhile, whoever moved it settles that.
        Ok(if self.orders.update(cx, &settled).await? { settled } else { order })
    }

    async fn try_to_settle(&self, cx: &Context, order: Order) -> Order {
        match self.settle(cx, order.clone()).await {
            Ok(settled) => settled,
            Err(error) => {
                tracing::warn!(order = %order.id, %error, "the inventory could not be told; it will be later");
                order
            }
        }
    }
}

fn abandoned() -> Error {
    order_error::order_abandoned().with_retry_after(Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Orders, item, order_of, shop};
    use super::*;

    fn customer() -> CustomerId {
        CustomerId::new("ada").unwrap()
    }

    async fn place(orders: &Orders, key: &str, lines: &[(&str, i64)]) -> Result<Order> {
        let wanted = Wanted::new(lines.iter().map(|(id, quantity)| (item(id), *quantity)))?;
        orders.place(&Context::background(), customer(), IdempotencyKey::new(key)?, wanted).await
    }

    #[tokio::test]
    async fn an_order_is_placed_once_for_each_key() {
        let (orders, world) = shop();
        let first = place(&orders, "k1", &[("cup", 2)]).await.unwrap();
        let again = place(&orders, "k1", &[("cup", 2)]).await.unwrap();
        assert_eq!((first.state, first.settled, &again), (State::Placed, true, &first));
        let other = place(&orders, "k2", &[("cup", 2)]).await.unwrap();
        assert_ne!(other.id, first.id);
        assert_eq!(world.available("cup"), 6);
    }

    #[tokio::test]
    async fn a_key_means_one_order() {
        let (orders, world) = shop();
        place(&orders, "k1", &[("cup", 2)]).await.unwrap();
        let error = place(&orders, "k1", &[("cup", 3)]).await.unwrap_err();
        assert!(order_error::is_idempotency_conflict(&error) && error.is_conflict());
        assert_eq!(world.available("cup"), 8);
    }

    #[tokio::test]
    async fn what_inventory_refuses_comes_through_and_can_be_tried_again() {
        let (orders, world) = shop();
        let error = place(&orders, "k1", &[("cup", 11)]).await.unwrap_err();
        assert!(inventory_error::is_out_of_stock(&error));
        assert_eq!(
            orders.list(&Context::background(), &customer(), PageSize::MAX, None).await.unwrap().orders,
            []
        );
        world.restock("cup", 5);
        assert_eq!(place(&orders, "k1", &[("cup", 11)]).await.unwrap().state, State::Placed);
        assert_eq!(world.available("cup"), 4);
    }

    #[tokio::test]
    async fn a_retry_goes_on_where_a_crash_stopped_at_the_old_price() {
        let (orders, world) = shop();
        let crashed = order_of(&[("cup", 2)], "k1");
        orders.orders.insert(&Context::background(), &crashed).await.unwrap();
        orders.stock.reserve(&Context::background(), &crashed).await.unwrap();
        world.set_price("cup", 999);
        let order = place(&orders, "k1", &[("cup", 2)]).await.unwrap();
        assert_eq!((order.id, order.state), (crashed.id, State::Placed));
        assert_eq!(order.lines[0].unit_price, crashed.lines[0].unit_price);
        assert_eq!(world.available("cup"), 8, "reserved once");
    }

    #[tokio::test]
    async fn what_was_reserved_is_released_if_storing_fails_and_the_same_request_places_it_after_all() {
        let (orders, world) = shop();
        world.fail_updates(1);
        assert!(place(&orders, "k1", &[("cup", 2)]).await.unwrap_err().is_temporary());
        assert_eq!(world.available("cup"), 10);
        let order = place(&orders, "k1", &[("cup", 2)]).await.unwrap();
        assert_eq!((order.state, order.attempt), (State::Placed, 2));
        assert_eq!(world.available("cup"), 8);
    }

    #[tokio::test]
    async fn an_order_left_pending_is_abandoned_and_its_stock_released() {
        let (orders, world) = shop();
        let cx = Context::background();
        let crashed = order_of(&[("cup", 2)], "k1");
        orders.orders.insert(&cx, &crashed).await.unwrap();
        orders.stock.reserve(&cx, &crashed).await.unwrap();
        orders.settle_all(&cx, Duration::from_secs(60)).await.unwrap();
        assert_eq!(world.available("cup"), 8, "not yet");
        orders.settle_all(&cx, Duration::ZERO).await.unwrap();
        assert_eq!(world.available("cup"), 10);
        let order = orders.order(&cx, &crashed.id).await.unwrap();
        assert_eq!((order.state, order.settled), (State::Abandoned, true));
    }

    #[tokio::test]
    async fn a_request_that_was_overtaken_by_the_end_does_not_place() {
        let (orders, world) = shop();
        let cx = Context::background();
        let slow = order_of(&[("cup", 2)], "k1");
        orders.orders.insert(&cx, &slow).await.unwrap();
        orders.settle_all(&cx, Duration::ZERO).await.unwrap();
        let error = orders.finish(&cx, &slow).await.unwrap_err();
        assert!(order_error::is_order_abandoned(&error) && error.is_temporary());
        assert_eq!(world.available("cup"), 10);
    }

    #[tokio::test]
    async fn cancelling_returns_the_items_even_if_the_inventory_is_away_for_a_while() {
        let (orders, world) = shop();
        let cx = Context::background();
        let order = place(&orders, "k1", &[("cup", 2)]).await.unwrap();
        world.set_inventory_away(true);
        let cancelled = orders.cancel(&cx, &order.id).await.unwrap();
        assert_eq!((cancelled.state, cancelled.settled), (State::Cancelled, false));
        assert_eq!(orders.cancel(&cx, &order.id).await.unwrap(), cancelled);
        world.set_inventory_away(false);
        orders.settle_all(&cx, Duration::ZERO).await.unwrap();
        assert_eq!(world.available("cup"), 10);
        assert!(orders.order(&cx, &order.id).await.unwrap().settled);
    }

    #[tokio::test]
    async fn only_what_was_placed_can_be_cancelled() {
        let (orders, _world) = shop();
        let cx = Context::background();
        let pending = order_of(&[("cup", 2)], "k1");
        orders.orders.insert(&cx, &pending).await.unwrap();
        assert!(order_error::is_order_not_placed(&orders.cancel(&cx, &pending.id).await.unwrap_err()));
        let nobodys = OrderId::new("order-1").unwrap();
        assert!(order_error::is_order_not_found(&orders.cancel(&cx, &nobodys).await.unwrap_err()));
    }
}
