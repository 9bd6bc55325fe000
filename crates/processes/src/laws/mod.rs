//! The laws of the processes and their objectives, checked against independent truths.

mod blocks;
mod bound;
mod categorical;
mod dense;
mod divergence;
mod gaussian;
mod identities;
mod interpolating;
mod objectives;
mod process;
mod rates;
mod reparam;
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

/// Compares a gradient with the finite differences of `loss` in every coordinate of `at`.
pub(crate) fn check_gradient(at: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    let scale = gradient.iter().fold(1.0f64, |m, g| m.max(g.abs()));
    for k in 0..at.len() {
        let along = |x: f64| {
            let mut moved = at.to_vec();
            moved[k] = x;
            loss(&moved)
        };
        let expected = galatea_fixtures::derivative(along, at[k], 1e-3);
        assert!((gradient[k] - expected).abs() < 1e-8 * scale, "coordinate {k}: {} {expected}", gradient[k]);
    }
}

pub(crate) fn one_hot(n: usize, k: u32) -> Vec<f64> {
    (0..n as u32).map(|j| f64::from(u8::from(j == k))).collect()
}
