//! What a new inventory is filled with.

use bowline::prelude::*;

use crate::biz::{ItemId, Stock};

/// How many items a new catalog has, whose ids are known by agreement.
const ITEMS: i64 = 520;
/// The one that is sold out.
const SOLD_OUT: i64 = 404;

/// 500 to 2499 of each item from `item-0001` to `item-0520`, the same each time; but none of `item-0404`.
///
/// # Errors
/// If that were no item's id, which its test rules out.
pub fn seed_stock() -> Result<Vec<Stock>> {
    let stock = |n: i64| {
        let available = if n == SOLD_OUT { 0 } else { 500 + n * 37 % 2000 };
        Ok(Stock { item: ItemId::new(format!("item-{n:04}"))?, available, reserved: 0 })
    };
    (1..=ITEMS).map(stock).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some_of_each_item_but_one() {
        let stock = seed_stock().unwrap();
        assert_eq!(stock.len(), 520);
        let sold_out: Vec<_> = stock.iter().filter(|s| s.available == 0).map(|s| s.item.as_str()).collect();
        assert_eq!(sold_out, ["item-0404"]);
        assert!(stock.iter().all(|s| s.available == 0 || s.available >= 500));
    }
}
