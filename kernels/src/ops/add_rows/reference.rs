//! The sum with a table as it reads.

use crate::op::Rows;

/// The row of r, which has `rows`, that row n of x meets.
fn row(over: Rows, len: usize, rows: usize, n: usize) -> usize {
    match over {
        Rows::Positions => n % len % rows,
        Rows::Batch => n / len,
    }
}

/// y.
pub(crate) fn forward(over: Rows, len: usize, d: usize, x: &[f64], r: &[f64]) -> Vec<f64> {
    (0..x.len()).map(|e| x[e] + r[row(over, len, r.len() / d, e / d) * d + e % d]).collect()
}

/// dr.
pub(crate) fn backward(over: Rows, len: usize, rows: usize, d: usize, dy: &[f64]) -> Vec<f64> {
    let mut dr = vec![0.0; rows * d];
    for (e, dy) in dy.iter().enumerate() {
        dr[row(over, len, rows, e / d) * d + e % d] += dy;
    }
    dr
}
