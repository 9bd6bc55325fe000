//! The linear layer as it reads.

use crate::op::Activation;
use crate::ops::activation::reference::forward as act;

/// (y, u) of x [n, i], w [o, i], b [o].
pub(crate) fn forward(
    activation: Activation,
    i: usize,
    x: &[f64],
    w: &[f64],
    b: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>) {
    let mut u = Vec::new();
    for x in x.chunks(i) {
        for (o, w) in w.chunks(i).enumerate() {
            u.push(b.map_or(0.0, |b| b[o]) + x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>());
        }
    }
    (u.iter().map(|&u| act(activation, u)).collect(), u)
}

/// dx of dy [n, o], w [o, i].
pub(crate) fn dx(o: usize, dy: &[f64], w: &[f64]) -> Vec<f64> {
    let i = w.len() / o;
    let mut dx = Vec::new();
    for dy in dy.chunks(o) {
        dx.extend((0..i).map(|c| (0..o).map(|r| dy[r] * w[r * i + c]).sum::<f64>()));
    }
    dx
}

/// (dw, db) of dy [n, o], x [n, i].
pub(crate) fn dw(o: usize, i: usize, dy: &[f64], x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut dw, mut db) = (vec![0.0; o * i], vec![0.0; o]);
    for (dy, x) in dy.chunks(o).zip(x.chunks(i)) {
        for r in 0..o {
            db[r] += dy[r];
            (0..i).for_each(|c| dw[r * i + c] += dy[r] * x[c]);
        }
    }
    (dw, db)
}
