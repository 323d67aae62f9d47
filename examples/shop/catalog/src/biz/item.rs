//! What is sold.

use std::fmt;

use bowline::prelude::*;
use shop_api::catalog::v1::catalog_error;
use shop_common::Money;

/// Names an item: 1 to 64 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(String);

impl ItemId {
    /// Checks that `id` is one.
    ///
    /// # Errors
    /// `INVALID_ITEM_ID`.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=64).contains(&id.len()) && id.bytes().all(valid) {
            return Ok(Self(id));
        }
        let message = format!("`{}` is no item's id: 1 to 64 of a-z, 0-9 and -", id.escape_debug());
        Err(catalog_error::invalid_item_id().with_message(message))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something to buy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name for machines.
    pub id: ItemId,
    /// Its name for people.
    pub title: String,
    /// More about it.
    pub description: String,
    /// Which shelf it is on, such as `kitchen`.
    pub category: String,
    /// The language of its texts: a BCP 47 tag.
    pub language: String,
    /// What one costs.
    pub price: Money,
}

/// A text as searches compare it: upper and lower case alike, in every script that has them, and so the two lower case
/// sigmas of Greek.
pub fn fold(text: &str) -> String {
    text.to_lowercase().replace('ς', "σ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_plain() {
        assert_eq!(ItemId::new("item-0001").unwrap().as_str(), "item-0001");
        for wrong in ["", "Item", "item 1", "東京", "a/b", &"x".repeat(65)] {
            assert!(catalog_error::is_invalid_item_id(&ItemId::new(wrong).unwrap_err()), "{wrong}");
        }
    }

    #[test]
    fn folding_makes_cases_alike_in_every_script() {
        for (a, b) in [("Teapot", "TEAPOT"), ("Чайник", "ЧАЙНИК"), ("Όλυμπος", "ΌΛΥΜΠΟΣ"), ("茶壶", "茶壶")]
        {
            assert_eq!(fold(a), fold(b));
        }
        assert!(fold("Όλυμπος").contains(&fold("ΠΟΣ")));
    }
}
