//! Time features as their definition reads.

pub(crate) fn forward(dim: usize, max_period: f64, scale: f64, t: &[f64]) -> Vec<f64> {
    let half = dim / 2;
    let mut y = vec![0.0; t.len() * dim];
    for b in 0..t.len() {
        for i in 0..half {
            let angle = scale * t[b] * max_period.powf(-(i as f64) / half as f64);
            y[b * dim + i] = angle.cos();
            y[b * dim + half + i] = angle.sin();
        }
    }
    y
}
