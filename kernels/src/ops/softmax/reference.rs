//! The softmax as it reads.

/// p for rows of `v`.
pub(crate) fn forward(v: usize, x: &[f64]) -> Vec<f64> {
    let row = |x: &[f64]| {
        let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = x.iter().map(|x| (x - top).exp()).sum();
        x.iter().map(|x| (x - top).exp() / total).collect::<Vec<_>>()
    };
    x.chunks(v).flat_map(row).collect()
}

/// dx.
pub(crate) fn backward(v: usize, p: &[f64], dy: &[f64]) -> Vec<f64> {
    let row = |(p, dy): (&[f64], &[f64])| {
        let mean: f64 = p.iter().zip(dy).map(|(p, dy)| p * dy).sum();
        p.iter().zip(dy).map(|(p, dy)| p * (dy - mean)).collect::<Vec<_>>()
    };
    p.chunks(v).zip(dy.chunks(v)).flat_map(row).collect()
}
