//! Unit rows as they read.

/// y for rows of `d`.
pub(crate) fn forward(eps: f64, d: usize, x: &[f64]) -> Vec<f64> {
    let row = |x: &[f64]| {
        let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter().map(|x| if length + eps == 0.0 { 0.0 } else { x / (length + eps) }).collect::<Vec<_>>()
    };
    x.chunks(d).flat_map(row).collect()
}

/// dx.
pub(crate) fn backward(eps: f64, d: usize, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let row = |(x, dy): (&[f64], &[f64])| {
        let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let dot: f64 = x.iter().zip(dy).map(|(x, dy)| x * dy).sum();
        let along = if length == 0.0 { 0.0 } else { dot / (length * (length + eps)) };
        let scale = if length + eps == 0.0 { 0.0 } else { 1.0 / (length + eps) };
        x.iter().zip(dy).map(|(x, dy)| (dy - x * along) * scale).collect::<Vec<_>>()
    };
    x.chunks(d).zip(dy.chunks(d)).flat_map(row).collect()
}
