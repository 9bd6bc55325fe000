//! An RMS norm a head.

use crate::ops::rms_norm::reference as rms_norm;

/// (y, stats) of qkv [n, 3 d].
pub(crate) fn forward(heads: usize, eps: f64, gain: f64, d: usize, qkv: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for row in qkv.chunks(3 * d) {
        let (normed, rstd) = rms_norm::forward(eps, d / heads, &row[..2 * d], None);
        y.extend(normed.iter().map(|y| gain * y));
        y.extend(&row[2 * d..]);
        stats.extend(rstd);
    }
    (y, stats)
}

/// dqkv.
pub(crate) fn backward(heads: usize, gain: f64, d: usize, qkv: &[f64], stats: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dqkv = Vec::new();
    for ((row, dy), stats) in qkv.chunks(3 * d).zip(dy.chunks(3 * d)).zip(stats.chunks(2 * heads)) {
        let dx = rms_norm::backward(d / heads, &row[..2 * d], stats, &dy[..2 * d], None).0;
        dqkv.extend(dx.iter().map(|dx| gain * dx));
        dqkv.extend(&dy[2 * d..]);
    }
    dqkv
}
