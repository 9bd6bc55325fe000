//! A factor for every text, as it reads.

/// y.
pub(crate) fn forward(index: usize, of: usize, x: &[f64], m: &[f64]) -> Vec<f64> {
    let n = x.len() / (m.len() / of);
    (0..x.len()).map(|e| m[e / n * of + index] * x[e]).collect()
}

/// dm; the gradient of x is `forward` of dy.
pub(crate) fn backward(index: usize, of: usize, x: &[f64], m: &[f64], dy: &[f64]) -> Vec<f64> {
    let n = x.len() / (m.len() / of);
    let mut dm = vec![0.0; m.len()];
    (0..x.len()).for_each(|e| dm[e / n * of + index] += x[e] * dy[e]);
    dm
}
