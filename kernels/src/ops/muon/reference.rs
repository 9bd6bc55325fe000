//! Muon as its algorithm reads, with matrices as rows of rows.

use super::cpu::{A, B, C, TINY};
use crate::op::{Hyper, Muon};
use crate::ops::global_norm::reference::clip;

pub(crate) type Matrix = Vec<Vec<f64>>;

pub(crate) fn rows(x: &[f64], columns: usize) -> Matrix {
    x.chunks(columns).map(<[f64]>::to_vec).collect()
}

pub(crate) fn transpose(x: &Matrix) -> Matrix {
    (0..x[0].len()).map(|j| x.iter().map(|row| row[j]).collect()).collect()
}

pub(crate) fn product(x: &Matrix, y: &Matrix) -> Matrix {
    let y = transpose(y);
    x.iter().map(|row| y.iter().map(|column| row.iter().zip(column).map(|(a, b)| a * b).sum()).collect()).collect()
}

/// Newton-Schulz on x `[s, k]` with s <= k.
pub(crate) fn orthogonalise(x: &Matrix, iterations: u32) -> Matrix {
    let norm = x.iter().flatten().map(|x| x * x).sum::<f64>().sqrt() + f64::from(TINY);
    let mut x: Matrix = x.iter().map(|row| row.iter().map(|x| x / norm).collect()).collect();
    for _ in 0..iterations {
        let gram = product(&x, &transpose(&x));
        let (linear, cubic, quintic) = (&x, product(&gram, &x), product(&gram, &product(&gram, &x)));
        let value = |i: usize, j: usize| {
            f64::from(A) * linear[i][j] + f64::from(B) * cubic[i][j] + f64::from(C) * quintic[i][j]
        };
        x = (0..x.len()).map(|i| (0..x[0].len()).map(|j| value(i, j)).collect()).collect();
    }
    x
}

pub(crate) fn step(
    muon: Muon,
    (r, c): (usize, usize),
    g: &[f64],
    norm: f64,
    hyper: &[f64],
    param: &mut [f64],
    momentum: &mut [f64],
) {
    let (mu, clip) = (f64::from(muon.momentum), clip(hyper[Hyper::MAX_NORM], norm));
    let mut u = vec![0.0; r * c];
    for i in 0..r * c {
        momentum[i] = mu * momentum[i] + clip * g[i];
        u[i] = clip * g[i] + mu * momentum[i];
    }
    let u = rows(&u, c);
    let factor = if r > c {
        transpose(&orthogonalise(&transpose(&u), muon.iterations))
    } else {
        orthogonalise(&u, muon.iterations)
    };
    let (lr, scale) = (hyper[Hyper::MUON_LR], (r as f64 / c as f64).max(1.0).sqrt());
    for (param, factor) in param.iter_mut().zip(factor.iter().flatten()) {
        *param -= lr * (f64::from(muon.weight_decay) * *param + scale * factor);
    }
}
