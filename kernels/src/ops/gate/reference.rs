//! The gated residual as it reads.

/// Where element e of x [b, l, d] finds chunk `index` of `of` in m.
fn at(index: usize, of: usize, len: usize, d: usize, e: usize) -> usize {
    (e / d / len * of + index) * d + e % d
}

/// y.
pub(crate) fn forward(gate: usize, of: usize, len: usize, d: usize, x: &[f64], h: &[f64], m: &[f64]) -> Vec<f64> {
    (0..x.len()).map(|e| x[e] + m[at(gate, of, len, d, e)] * h[e]).collect()
}

/// (dh, dm).
pub(crate) fn backward(
    gate: usize,
    of: usize,
    len: usize,
    d: usize,
    h: &[f64],
    m: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let mut dm = vec![0.0; m.len()];
    (0..h.len()).for_each(|e| dm[at(gate, of, len, d, e)] += dy[e] * h[e]);
    ((0..h.len()).map(|e| dy[e] * m[at(gate, of, len, d, e)]).collect(), dm)
}
