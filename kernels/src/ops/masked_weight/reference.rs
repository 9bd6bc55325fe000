//! The masked weight as its definition reads.

pub(crate) fn forward(mask: u32, x_t: &[u32], weight: &[f64]) -> Vec<f64> {
    let len = x_t.len() / weight.len();
    (0..x_t.len()).map(|n| if x_t[n] == mask { weight[n / len] } else { 0.0 }).collect()
}
