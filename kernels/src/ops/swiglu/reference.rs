//! The gate as it reads.

use crate::op::Activation::Silu;
use crate::ops::activation::reference::{derivative, forward as act};

/// y.
pub(crate) fn forward(f: usize, u: &[f64]) -> Vec<f64> {
    u.chunks(2 * f).flat_map(|u| (0..f).map(|i| act(Silu, u[i]) * u[f + i])).collect()
}

/// du.
pub(crate) fn backward(f: usize, u: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut du = vec![0.0; u.len()];
    for ((u, dy), du) in u.chunks(2 * f).zip(dy.chunks(f)).zip(du.chunks_mut(2 * f)) {
        for i in 0..f {
            du[i] = dy[i] * u[f + i] * derivative(Silu, u[i]);
            du[f + i] = dy[i] * act(Silu, u[i]);
        }
    }
    du
}
