//! Amounts of money.

use std::fmt;

use bowline::prelude::*;
use shop_api::common::v1;

/// An amount in the smallest unit of a currency: cents for EUR, yen for JPY. Never a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    currency: [u8; 3],
    units: i64,
}

impl Money {
    /// `units` of the smallest unit of `currency`, which is three capital letters; `None` if it is not.
    pub fn new(currency: &str, units: i64) -> Option<Self> {
        let currency: [u8; 3] = currency.as_bytes().try_into().ok()?;
        currency.iter().all(u8::is_ascii_uppercase).then_some(Self { currency, units })
    }

    /// Three letters of ISO 4217.
    pub fn currency(&self) -> &str {
        // Capital letters, as `new` has checked.
        std::str::from_utf8(&self.currency).unwrap_or_default()
    }

    /// How many of the smallest unit.
    pub fn units(&self) -> i64 {
        self.units
    }

    /// The sum; `None` if the currencies differ or it is too much.
    pub fn plus(self, other: Self) -> Option<Self> {
        let units = self.units.checked_add(other.units)?;
        (self.currency == other.currency).then_some(Self { units, ..self })
    }

    /// So many times the amount; `None` if it is too much.
    pub fn times(self, count: i64) -> Option<Self> {
        Some(Self { units: self.units.checked_mul(count)?, ..self })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.currency(), self.units)
    }
}

impl From<Money> for v1::Money {
    fn from(money: Money) -> Self {
        Self { currency_code: money.currency().to_owned(), units: money.units, ..Default::default() }
    }
}

impl TryFrom<v1::Money> for Money {
    type Error = Error;

    fn try_from(money: v1::Money) -> Result<Self> {
        Self::new(&money.currency_code, money.units).ok_or_else(|| {
            Error::invalid_argument(format!(
                "`{}` is no currency; write three capital letters, such as EUR",
                money.currency_code
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_amounts_of_one_currency_add_up() {
        let eur = |units| Money::new("EUR", units).unwrap();
        assert_eq!(eur(250).plus(eur(50)), Some(eur(300)));
        assert_eq!(eur(250).plus(Money::new("JPY", 50).unwrap()), None);
        assert_eq!(eur(i64::MAX).plus(eur(1)), None);
        assert_eq!((eur(7).times(3), eur(i64::MAX).times(2)), (Some(eur(21)), None));
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        for wrong in ["", "EU", "eur", "EURO", "EÜ"] {
            assert_eq!(Money::new(wrong, 1), None, "{wrong}");
        }
    }

    #[test]
    fn money_goes_over_the_wire_and_back() {
        let money = Money::new("EUR", -1250).unwrap();
        assert_eq!(Money::try_from(v1::Money::from(money)).unwrap(), money);
        assert!(Money::try_from(v1::Money::default()).unwrap_err().is_invalid());
    }
}
