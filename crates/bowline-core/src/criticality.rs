//! How much a request matters.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Metadata;

/// How bad it is if a request is not served: when there is not enough for all, the lowest is shed first. Google's four
/// levels (*Site Reliability Engineering*, chapter 21, "Handling Overload").
///
/// It is set where a request enters the system and travels on with it, under [`Criticality::KEY`], so that a service deep
/// down knows what its work is for. From lowest to highest, so that they compare.
///
/// ```
/// use bowline_core::Criticality;
///
/// assert!(Criticality::Sheddable < Criticality::Critical);
/// assert_eq!(Criticality::parse("SHEDDABLE_PLUS"), Some(Criticality::SheddablePlus));
/// assert_eq!(Criticality::default(), Criticality::Critical);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Criticality {
    /// Often not served in part, sometimes not at all: what is tried again by itself, later.
    Sheddable,
    /// Not served at times: batch jobs.
    SheddablePlus,
    /// Users notice. What says nothing is this.
    #[default]
    Critical,
    /// Users notice badly. Keep capacity for all of it.
    CriticalPlus,
}

impl Criticality {
    /// The metadata key: on every hop.
    pub const KEY: &'static str = "x-md-global-criticality";

    /// All, from lowest to highest.
    pub const ALL: [Self; 4] = [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];

    /// By its name. `None` if it is no name of one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// What a request's metadata says; [`Critical`](Self::Critical) where it says nothing that is understood: a newer
    /// caller may know other levels, and its requests are served all the same.
    pub fn of(metadata: &Metadata) -> Self {
        metadata.get(Self::KEY).and_then(Self::parse).unwrap_or_default()
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sheddable => "SHEDDABLE",
            Self::SheddablePlus => "SHEDDABLE_PLUS",
            Self::Critical => "CRITICAL",
            Self::CriticalPlus => "CRITICAL_PLUS",
        }
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_critical() {
        let mut metadata = Metadata::default();
        assert_eq!(Criticality::of(&metadata), Criticality::Critical);
        metadata.insert(Criticality::KEY, "SHEDDABLE").unwrap();
        assert_eq!(Criticality::of(&metadata), Criticality::Sheddable);
        metadata.insert(Criticality::KEY, "UTMOST").unwrap();
        assert_eq!(Criticality::of(&metadata), Criticality::Critical);
    }
}
