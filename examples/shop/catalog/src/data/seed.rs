//! What a new catalog is filled with.

use bowline::prelude::*;
use shop_common::Money;

use super::words::{LANGUAGES, PRODUCTS};
use crate::biz::{Item, ItemId};

/// 520 items, `item-0001` to `item-0520`, the same each time: every product, in every series, in ten languages and as many scripts. Neighbours differ in language, so that a page shows several.
///
/// # Errors
/// If the words make no item, which its test rules out.
pub fn seed_items() -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (product, (category, base_price)) in PRODUCTS.iter().enumerate() {
        for series in 0..4 {
            for language in &LANGUAGES {
                let fill = |pattern: &str| {
                    let filled = pattern.replace("{series}", language.series[series]);
                    filled.replace("{product}", language.products[product])
                };
                // Each series costs 15 % more than the one before.
                let units = base_price * (100 + 15 * i64::try_from(series).unwrap_or(0)) / 100;
                items.push(Item {
                    id: ItemId::new(format!("item-{:04}", items.len() + 1))?,
                    title: fill(language.title),
                    description: fill(language.description),
                    category: (*category).to_owned(),
                    language: language.tag.to_owned(),
                    price: Money::new("EUR", units).ok_or_else(|| Error::internal("EUR is no currency"))?,
                });
            }
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_seed_is_large_and_the_same_each_time() {
        let items = seed_items().unwrap();
        assert_eq!((items.len(), seed_items().unwrap()), (520, items.clone()));
        assert_eq!((items[0].id.as_str(), items[519].id.as_str()), ("item-0001", "item-0520"));
        assert_eq!(items[0].title, "Teapot “Aurora”");
        assert!(items.iter().all(|item| item.price.units() > 0));
    }

    #[test]
    fn titles_are_unique_within_the_catalog_and_filled_in() {
        let items = seed_items().unwrap();
        let titles: HashSet<_> = items.iter().map(|item| item.title.as_str()).collect();
        assert_eq!(titles.len(), items.len());
        assert!(items.iter().all(|item| !item.title.contains('{') && !item.description.contains('{')));
    }

    #[test]
    fn every_script_is_there() {
        let items = seed_items().unwrap();
        let scripts = [
            'a'..='z',
            'а'..='я',
            'α'..='ω',
            '一'..='鿿',
            'ぁ'..='ヿ',
            '가'..='힣',
            'ء'..='ي',
            'א'..='ת',
            'अ'..='ह',
            'ก'..='ฮ',
        ];
        for script in scripts {
            let written = items.iter().filter(|item| item.title.chars().any(|c| script.contains(&c)));
            assert!(written.count() >= 40, "{script:?}");
        }
    }
}
