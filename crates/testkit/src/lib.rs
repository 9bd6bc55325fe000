//! What galatea's own tests share: golden fixtures, tolerances, finite differences.
#![forbid(unsafe_code)]

pub mod finite;
pub mod fixture;

pub use finite::derivative;
pub use fixture::{Fixture, golden, skipped};

/// The largest |a - b| relative to the largest |b| (the measure that the goldens' tolerances are stated in).
pub fn relative_to_max(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "comparing {} numbers with {}", a.len(), b.len());
    let scale = b.iter().fold(0.0f64, |m, x| m.max(x.abs())).max(f64::MIN_POSITIVE);
    let worst = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0f64, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) });
    worst / scale
}

/// The largest elementwise relative difference |a - b| / max(|b|, floor).
pub fn relative(a: &[f64], b: &[f64], floor: f64) -> f64 {
    assert_eq!(a.len(), b.len(), "comparing {} numbers with {}", a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs() / b.abs().max(floor))
        .fold(0.0f64, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) })
}
