//! An RMS norm a head.

use super::Dims;
use crate::ops::rms_norm::reference as rms_norm;

/// The gains of q and of k, times the one of both.
fn gains(dims: Dims, gain: f64, gains: Option<&[f64]>, h: usize) -> Vec<f64> {
    let first = if h < dims.queries { 0 } else { dims.d_head };
    (first..first + dims.d_head).map(|c| gain * gains.map_or(1.0, |g| g[c])).collect()
}

/// (y, stats) of qkv [n, (heads + 2 kv_heads) d_head].
pub(crate) fn forward(dims: Dims, eps: f64, gain: f64, qkv: &[f64], g: Option<&[f64]>) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for row in qkv.chunks(dims.heads * dims.d_head) {
        let (qk, v) = row.split_at(dims.normed * dims.d_head);
        for (h, x) in qk.chunks(dims.d_head).enumerate() {
            let (normed, rstd) = rms_norm::forward(eps, dims.d_head, x, Some(&gains(dims, gain, g, h)));
            y.extend(normed);
            stats.extend(rstd);
        }
        y.extend(v);
    }
    (y, stats)
}

/// (dqkv, dgains).
pub(crate) fn backward(
    dims: Dims,
    gain: f64,
    qkv: &[f64],
    stats: &[f64],
    dy: &[f64],
    g: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>) {
    let (width, mut dqkv, mut dgains) = (dims.heads * dims.d_head, Vec::new(), vec![0.0; 2 * dims.d_head]);
    for ((row, dy), stats) in qkv.chunks(width).zip(dy.chunks(width)).zip(stats.chunks(dims.normed)) {
        let ((qk, _), (dqk, dv)) = (row.split_at(dims.normed * dims.d_head), dy.split_at(dims.normed * dims.d_head));
        for (h, (x, dy)) in qk.chunks(dims.d_head).zip(dqk.chunks(dims.d_head)).enumerate() {
            let (dx, dg) = rms_norm::backward(dims.d_head, x, &stats[h..=h], dy, Some(&gains(dims, gain, g, h)));
            dqkv.extend(dx);
            let first = if h < dims.queries { 0 } else { dims.d_head };
            dgains[first..].iter_mut().zip(dg).for_each(|(sum, d)| *sum += gain * d);
        }
        dqkv.extend(dv);
    }
    (dqkv, dgains)
}
