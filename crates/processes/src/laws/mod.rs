//! The laws of the processes and their objectives, checked against independent truths.

mod bound;
mod categorical;
mod gaussian;
mod objectives;
mod process;
mod times;

use proptest::prelude::*;

/// A distribution over `n` outcomes, none of them rarer than about 1e-3.
pub(crate) fn distribution(n: usize) -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(0.01..1.0f64, n).prop_map(|weights| {
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    })
}

/// alpha_bar at s < t, both inside (0, 1).
pub(crate) fn two_alpha_bars() -> impl Strategy<Value = (f64, f64)> {
    (0.02..0.98f64, 0.02..0.98f64).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

pub(crate) fn one_hot(n: usize, k: u32) -> Vec<f64> {
    (0..n as u32).map(|j| f64::from(u8::from(j == k))).collect()
}
