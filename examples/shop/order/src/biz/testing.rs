//! A world in memory, in which things go wrong on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use bowline::prelude::*;
use shop_api::inventory::v1::inventory_error;
use shop_common::Money;

use super::{
    CustomerId, IdempotencyKey, ItemId, Offer, Order, OrderId, OrderRepository, Prices, State, Stock, Wanted,
    orders,
};

pub(super) type Orders = orders::Orders<World, World, World>;

#[derive(Clone, Default)]
pub(super) struct World(Arc<Mutex<Facts>>);

#[derive(Default)]
struct Facts {
    orders: HashMap<OrderId, Order>,
    prices: HashMap<ItemId, i64>,
    available: HashMap<ItemId, i64>,
    /// Reservations, and whether they are released.
    reservations: HashMap<String, bool>,
    failing_updates: usize,
    inventory_away: bool,
}

/// A shop that sells cups, of which it has ten.
pub(super) fn shop() -> (Orders, World) {
    let world = World::default();
    world.set_price("cup", 890);
    world.restock("cup", 10);
    (Orders::new(world.clone(), world.clone(), world.clone()), world)
}

pub(super) fn item(id: &str) -> ItemId {
    ItemId::new(id).unwrap()
}

/// A pending order of the customer `ada`.
pub(super) fn order_of(lines: &[(&str, i64)], key: &str) -> Order {
    let wanted = Wanted::new(lines.iter().map(|(id, quantity)| (item(id), *quantity))).unwrap();
    let offers = wanted.items().map(|item| offer(item, 890)).collect();
    let (customer, key) = (CustomerId::new("ada").unwrap(), IdempotencyKey::new(key).unwrap());
    Order::pending(customer, key, &wanted, offers, SystemTime::now()).unwrap()
}

fn offer(item: &ItemId, units: i64) -> Offer {
    Offer { item: item.clone(), title: item.to_string(), price: Money::new("EUR", units).unwrap() }
}

impl World {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap()
    }

    pub(super) fn available(&self, id: &str) -> i64 {
        self.facts().available[&item(id)]
    }

    pub(super) fn restock(&self, id: &str, count: i64) {
        *self.facts().available.entry(item(id)).or_default() += count;
    }

    pub(super) fn set_price(&self, id: &str, units: i64) {
        self.facts().prices.insert(item(id), units);
    }

    pub(super) fn fail_updates(&self, count: usize) {
        self.facts().failing_updates = count;
    }

    pub(super) fn set_inventory_away(&self, away: bool) {
        self.facts().inventory_away = away;
    }

    fn inventory(&self) -> Result<MutexGuard<'_, Facts>> {
        let facts = self.facts();
        if facts.inventory_away { Err(Error::unavailable("the inventory is away")) } else { Ok(facts) }
    }
}

impl OrderRepository for World {
    async fn find(&self, _cx: &Context, id: &OrderId) -> Result<Option<Order>> {
        Ok(self.facts().orders.get(id).cloned())
    }

    async fn find_by_key(
        &self,
        _cx: &Context,
        customer: &CustomerId,
        key: &IdempotencyKey,
    ) -> Result<Option<Order>> {
        let facts = self.facts();
        Ok(facts.orders.values().find(|order| order.customer == *customer && order.key == *key).cloned())
    }

    async fn list(
        &self,
        _cx: &Context,
        customer: &CustomerId,
        before: Option<&OrderId>,
        limit: i64,
    ) -> Result<Vec<Order>> {
        let facts = self.facts();
        let placed = |order: &&Order| matches!(order.state, State::Placed | State::Cancelled);
        let own = facts.orders.values().filter(|order| order.customer == *customer).filter(placed);
        let mut found: Vec<_> = own.filter(|order| before.is_none_or(|id| order.id < *id)).cloned().collect();
        found.sort_by(|a, b| b.id.cmp(&a.id));
        found.truncate(usize::try_from(limit).unwrap());
        Ok(found)
    }

    async fn unsettled(&self, _cx: &Context, before: SystemTime) -> Result<Vec<Order>> {
        let facts = self.facts();
        Ok(facts
            .orders
            .values()
            .filter(|order| !order.settled && order.created_at <= before)
            .cloned()
            .collect())
    }

    async fn insert(&self, cx: &Context, order: &Order) -> Result<Order> {
        if let Some(existing) = self.find_by_key(cx, &order.customer, &order.key).await? {
            return Ok(existing);
        }
        self.facts().orders.insert(order.id.clone(), order.clone());
        Ok(order.clone())
    }

    async fn update(&self, _cx: &Context, order: &Order) -> Result<bool> {
        let mut facts = self.facts();
        if facts.failing_updates > 0 {
            facts.failing_updates -= 1;
            return Err(Error::unavailable("the disk is full"));
        }
        match facts.orders.get_mut(&order.id) {
            Some(stored) if stored.version + 1 == order.version => {
                *stored = order.clone();
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Prices for World {
    async fn offers(&self, _cx: &Context, items: &[ItemId]) -> Result<Vec<Offer>> {
        let facts = self.facts();
        Ok(items.iter().filter_map(|item| Some(offer(item, *facts.prices.get(item)?))).collect())
    }
}

impl Stock for World {
    async fn reserve(&self, _cx: &Context, order: &Order) -> Result<()> {
        let mut facts = self.inventory()?;
        match facts.reservations.get(&order.reservation()) {
            Some(true) => return Err(inventory_error::reservation_released()),
            Some(false) => return Ok(()),
            None => {}
        }
        if order.lines.iter().any(|line| facts.available[&line.item] < line.quantity) {
            return Err(inventory_error::out_of_stock());
        }
        for line in &order.lines {
            *facts.available.entry(line.item.clone()).or_default() -= line.quantity;
        }
        facts.reservations.insert(order.reservation(), false);
        Ok(())
    }

    async fn confirm(&self, _cx: &Context, order: &Order) -> Result<()> {
        match self.inventory()?.reservations.get(&order.reservation()) {
            Some(false) => Ok(()),
            _ => Err(inventory_error::reservation_released()),
        }
    }

    async fn release(&self, _cx: &Context, order: &Order) -> Result<()> {
        let mut facts = self.inventory()?;
        if facts.reservations.insert(order.reservation(), true) == Some(false) {
            for line in &order.lines {
                *facts.available.entry(line.item.clone()).or_default() += line.quantity;
            }
        }
        Ok(())
    }
}
