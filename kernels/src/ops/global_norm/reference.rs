//! The norm as its definition reads.

pub(crate) fn forward(g: &[f64]) -> f64 {
    g.iter().map(|g| g * g).sum::<f64>().sqrt()
}

/// min(1, max_norm / norm).
pub(crate) fn clip(max_norm: f64, norm: f64) -> f64 {
    (max_norm / norm).min(1.0)
}
