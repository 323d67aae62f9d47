//! Chance and order.

use bowline_core::Rng;

/// Drawn from an exponential distribution with the mean 1.
pub(crate) fn exponential(rng: &impl Rng) -> f64 {
    -(1.0 - rng.unit()).ln()
}

/// The value that `q` of all are not above; 0 of none.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = ((values.len() as f64 * q).ceil() as usize).clamp(1, values.len());
    *values.select_nth_unstable_by(rank - 1, f64::total_cmp).1
}

/// The mean; NaN of none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut number) = (0.0, 0.0);
    for value in values {
        (sum, number) = (sum + value, number + 1.0);
    }
    sum / number
}
