//! What it means to place an order, without a word about how orders are stored or who answers for prices and stock.

mod order;
mod orders;
mod ports;
#[cfg(test)]
mod testing;

pub use order::{CustomerId, IdempotencyKey, ItemId, Line, Order, OrderId, State, Wanted};
pub use orders::{Orders, Page};
pub use ports::{Offer, OrderRepository, Prices, Stock};
