//! An RMS norm a head.

use super::Dims;
use crate::ops::rms_norm::reference as rms_norm;

/// (y, stats) of qkv [n, (heads + 2 kv_heads) d_head].
pub(crate) fn forward(dims: Dims, eps: f64, gain: f64, qkv: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for row in qkv.chunks(dims.heads * dims.d_head) {
        let (qk, v) = row.split_at(dims.normed * dims.d_head);
        let (normed, rstd) = rms_norm::forward(eps, dims.d_head, qk, None);
        y.extend(normed.iter().map(|y| gain * y));
        y.extend(v);
        stats.extend(rstd);
    }
    (y, stats)
}

/// dqkv.
pub(crate) fn backward(dims: Dims, gain: f64, qkv: &[f64], stats: &[f64], dy: &[f64]) -> Vec<f64> {
    let (width, mut dqkv) = (dims.heads * dims.d_head, Vec::new());
    for ((row, dy), stats) in qkv.chunks(width).zip(dy.chunks(width)).zip(stats.chunks(dims.normed)) {
        let ((qk, _), (dqk, dv)) = (row.split_at(dims.normed * dims.d_head), dy.split_at(dims.normed * dims.d_head));
        let dx = rms_norm::backward(dims.d_head, qk, stats, dqk, None).0;
        dqkv.extend(dx.iter().map(|dx| gain * dx));
        dqkv.extend(dv);
    }
    dqkv
}
