//! Which requests try the new version.

use bowline_core::{Metadata, Rng, Tenant};

use crate::hash::{hash_of, pair, unit};

/// Gives a part of production's requests to a tenant: the new version of a service, registered under it.
///
/// It decides whose request it is, where requests come in; from there on the tenant is carried along like any other,
/// so that the whole of a request is served by the canary where there is one. It never is decided on the way.
///
/// ```
/// use bowline_balance::Canary;
/// use bowline_core::{Metadata, SystemRng, Tenant};
///
/// let canary = Canary { tenant: Tenant::new("canary").unwrap(), percent: 5.0, key: Some("x-md-global-user".into()) };
/// let mut metadata = Metadata::default();
/// metadata.insert("x-md-global-user", "7").unwrap();
/// let first = canary.takes(&metadata, &SystemRng);
/// assert_eq!(canary.takes(&metadata, &SystemRng), first, "the same user sees the same version");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// Whose the requests become.
    pub tenant: Tenant,
    /// How many of 100; what is below 0 or no number is 0.
    pub percent: f64,
    /// The metadata key whose values are divided; requests without it stay with production. Without a key chance
    /// decides for each request.
    pub key: Option<String>,
}

impl Canary {
    /// Whether a request of production becomes one of the canary. With a key, whoever is taken at 5 % is
    /// taken at 10 % too.
    pub fn takes(&self, metadata: &Metadata, rng: &impl Rng) -> bool {
        let draw = match &self.key {
            None => rng.unit(),
            Some(key) => match metadata.get(key) {
                Some(value) => unit(pair(hash_of(self.tenant.as_str()), hash_of(value))),
                None => return false,
            },
        };
        draw * 100.0 < self.percent
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::SeededRng;

    use super::*;

    fn user(name: usize) -> Metadata {
        let mut metadata = Metadata::default();
        metadata.insert("x-md-global-user", &name.to_string()).unwrap();
        metadata
    }

    fn canary(percent: f64, key: Option<&str>) -> Canary {
        Canary { tenant: Tenant::new("canary").unwrap(), percent, key: key.map(Into::into) }
    }

    #[test]
    fn it_takes_its_percentage_of_users_and_of_requests() {
        let rng = SeededRng::new(11);
        for key in [None, Some("x-md-global-user")] {
            let canary = canary(5.0, key);
            let taken = (0..20_000).filter(|name| canary.takes(&user(*name), &rng)).count();
            // 1 000 are expected; 31 is the deviation.
            assert!((870..1130).contains(&taken), "{key:?} {taken}");
        }
    }

    #[test]
    fn whoever_has_the_new_version_keeps_it_when_more_get_it() {
        let (rng, key) = (SeededRng::new(1), Some("x-md-global-user"));
        let (few, more) = (canary(5.0, key), canary(20.0, key));
        for name in 0..2_000 {
            assert!(!few.takes(&user(name), &rng) || more.takes(&user(name), &rng));
        }
    }

    #[test]
    fn nobody_is_taken_for_want_of_a_key_or_a_percentage() {
        let rng = SeededRng::new(1);
        assert!(!canary(100.0, Some("x-md-global-user")).takes(&Metadata::default(), &rng));
        for percent in [0.0, -1.0, f64::NAN] {
            assert!(!(0..1_000).any(|name| canary(percent, None).takes(&user(name), &rng)), "{percent}");
        }
        assert!((0..1_000).all(|name| canary(100.0, None).takes(&user(name), &rng)));
    }
}
