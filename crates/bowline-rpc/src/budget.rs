//! What a server holds of messages that have not arrived completely.
//!
//! A limit per message bounds one request; many requests that never end are bounded only together. A finished message is its
//! handler's: what that holds is bounded by how many run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline_core::{Error, Result};

use crate::scope::Outcome;

/// The reason of a request that was refused for it.
pub(crate) const OUT_OF_BUDGET: &str = "TOO_MANY_UNFINISHED_BYTES";

/// How many bytes of unfinished messages a server holds at most, over all its connections. A clone is the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, held: AtomicUsize::new(0) }))
    }

    /// How many are held now.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }
}

/// Where one message of a body ends.
#[derive(Debug)]
pub(crate) enum Framing {
    /// With the body.
    Whole,
    /// With its envelope: the bytes of the prefix so far, and what is left of the message after it.
    Envelopes { prefix: [u8; 5], seen: usize, left: usize },
    /// With its line.
    Lines,
}

impl Framing {
    pub(crate) const fn envelopes() -> Self {
        Self::Envelopes { prefix: [0; 5], seen: 0, left: 0 }
    }

    /// How much of an unfinished message there is after `data`, if there was `before` of it.
    fn unfinished(&mut self, before: usize, mut data: &[u8]) -> usize {
        match self {
            Self::Whole => before + data.len(),
            Self::Lines => match data.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => data.len() - end - 1,
                None => before + data.len(),
            },
            Self::Envelopes { prefix, seen, left } => {
                let mut unfinished = before;
                while let Some((first, rest)) = data.split_first() {
                    if *seen < prefix.len() {
                        prefix[*seen] = *first;
                        *seen += 1;
                        unfinished += 1;
                        data = rest;
                        if *seen == prefix.len() {
                            let [_, length @ ..] = *prefix;
                            *left = u32::from_be_bytes(length) as usize;
                        }
                    } else {
                        let taken = data.len().min(*left);
                        *left -= taken;
                        unfinished += taken;
                        data = &data[taken..];
                    }
                    if *seen == prefix.len() && *left == 0 {
                        (*seen, unfinished) = (0, 0);
                    }
                }
                unfinished
            }
        }
    }
}

/// What one request's unfinished message takes of a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    framing: Framing,
    outcome: Outcome,
    held: usize,
}

impl Meter {
    /// `outcome` is told of a refusal, which the protocol's own code makes something else of.
    pub(crate) fn new(budget: &Budget, framing: Framing, outcome: &Outcome) -> Self {
        Self { budget: budget.clone(), framing, outcome: outcome.clone(), held: 0 }
    }

    /// Counts what arrived.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if the server holds too much already.
    pub(crate) fn count(&mut self, data: &[u8]) -> Result<()> {
        let unfinished = self.framing.unfinished(self.held, data);
        let all = &self.budget.0.held;
        if unfinished > self.held {
            let more = unfinished - self.held;
            let limit = self.budget.0.limit;
            if all.fetch_add(more, Ordering::Relaxed) + more > limit {
                all.fetch_sub(more, Ordering::Relaxed);
                let refused = || {
                    Error::resource_exhausted(format!(
                        "the server holds {limit} bytes of unfinished requests already; try again later"
                    ))
                    .with_reason(OUT_OF_BUDGET)
                };
                self.outcome.fail(refused());
                return Err(refused());
            }
        } else {
            all.fetch_sub(self.held - unfinished, Ordering::Relaxed);
        }
        self.held = unfinished;
        Ok(())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.budget.0.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope;

    #[test]
    fn only_what_is_unfinished_counts() {
        let budget = Budget::new(20);
        let mut meter = Meter::new(&budget, Framing::envelopes(), &Outcome::default());
        let two = [envelope::wrap(b"0123456789").unwrap(), envelope::wrap(b"").unwrap()].concat();
        for (cut, held) in [(3, 3), (9, 9), (15, 0), (18, 3), (20, 0)] {
            let mut meter = Meter::new(&budget, Framing::envelopes(), &Outcome::default());
            meter.count(&two[..cut / 2]).unwrap();
            meter.count(&two[cut / 2..cut]).unwrap();
            assert_eq!(budget.held(), held, "{cut}");
        }
        assert_eq!(budget.held(), 0);
        for _ in 0..9 {
            meter.count(&two).unwrap();
        }
        let mut lines = Meter::new(&budget, Framing::Lines, &Outcome::default());
        lines.count(b"12345\n123").unwrap();
        assert_eq!(budget.held(), 3);
    }

    #[test]
    fn what_is_over_the_budget_is_refused_and_the_rest_given_back() {
        let (budget, outcome) = (Budget::new(20), Outcome::default());
        let mut first = Meter::new(&budget, Framing::Whole, &outcome);
        first.count(&[0; 15]).unwrap();
        let mut second = Meter::new(&budget, Framing::Whole, &outcome);
        assert_eq!(second.count(&[0; 6]).unwrap_err().reason(), OUT_OF_BUDGET);
        assert_eq!(outcome.error().unwrap().reason(), OUT_OF_BUDGET);
        drop(first);
        second.count(&[0; 6]).unwrap();
        drop(second);
        assert_eq!(budget.held(), 0);
    }
}
