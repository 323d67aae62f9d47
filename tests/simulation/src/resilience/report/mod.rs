//! What was found: bounds, tables and plots, as a page.

mod page;
mod plot;

pub use page::page;
pub use plot::{Axis, Bars, Lines};

/// What one subject found.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// What it is about.
    pub title: &'static str,
    /// What is simulated, and how.
    pub text: String,
    /// What has to hold.
    pub bounds: Vec<Bound>,
    /// Plots over numbers.
    pub lines: Vec<Lines>,
    /// Plots by name.
    pub bars: Vec<Bars>,
    /// All figures.
    pub tables: Vec<Table>,
}

/// Something that has to hold.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Of what.
    pub what: String,
    /// What it has to be.
    pub wanted: String,
    /// What it is.
    pub seen: String,
    /// Whether it is as it has to be.
    pub holds: bool,
}

/// Rows of text under a header.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What is in it.
    pub title: String,
    /// Names of columns.
    pub header: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, header: &[&str]) -> Self {
        let header = header.iter().map(|name| (*name).to_owned()).collect();
        Self { title: title.into(), header, rows: Vec::new() }
    }
}

/// How a number is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A part of 1.
    Percent,
    /// Against something else.
    Times,
    /// Seconds.
    Seconds,
    /// Seconds, told in thousandths.
    Millis,
    Count,
}

impl Unit {
    pub(crate) fn tell(self, value: f64) -> String {
        match self {
            _ if value.is_infinite() => "∞".into(),
            Self::Percent => format!("{:.2} %", value * 100.0),
            Self::Times => format!("{value:.3}×"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Millis => format!("{:.1} ms", value * 1_000.0),
            Self::Count => format!("{value:.0}"),
        }
    }
}

impl Section {
    pub(crate) fn new(title: &'static str, text: impl Into<String>) -> Self {
        Self { title, text: text.into(), ..Self::default() }
    }

    /// It has to be `bound` or more. What is no number is a miss.
    pub(crate) fn at_least(&mut self, what: impl Into<String>, seen: f64, bound: f64, unit: Unit) {
        self.bound(what, format!("≥ {}", unit.tell(bound)), unit.tell(seen), seen >= bound);
    }

    /// It has to be `bound` or less.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, seen: f64, bound: f64, unit: Unit) {
        self.bound(what, format!("≤ {}", unit.tell(bound)), unit.tell(seen), seen <= bound);
    }

    pub(crate) fn bound(&mut self, what: impl Into<String>, wanted: String, seen: String, holds: bool) {
        self.bounds.push(Bound { what: what.into(), wanted, seen, holds });
    }

    /// The bounds that do not hold, in words.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.bounds.iter().filter(|bound| !bound.holds);
        missed.map(|b| format!("{}: {}: {}, wanted {}", self.title, b.what, b.seen, b.wanted)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misses_its_bound_or_is_no_number_is_named() {
        let mut section = Section::new("Overload", "");
        section.at_least("success", 0.999, 0.999, Unit::Percent);
        section.at_most("latency", 0.25, 0.25, Unit::Millis);
        assert_eq!(section.missed(), [] as [String; 0]);
        section.at_least("success", 0.9989, 0.999, Unit::Percent);
        section.at_least("success", f64::NAN, 0.999, Unit::Percent);
        section.at_most("latency", f64::NAN, 1.0, Unit::Seconds);
        assert_eq!(section.missed().len(), 3);
        assert_eq!(section.missed()[0], "Overload: success: 99.89 %, wanted ≥ 99.90 %");
    }
}
