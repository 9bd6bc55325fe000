//! CPU kernels: three products with what surrounds them.

use crate::cpu::Cores;
use crate::gemm::{Factor, Layout, Store, gemm, product};
use crate::isa::multiversion;
use crate::op::Activation;

/// y = act(x w^T + b); `u` receives x w^T + b where an activation is asked.
#[expect(clippy::too_many_arguments, reason = "the op's own tensors")]
pub fn forward(
    cores: &Cores,
    activation: Activation,
    i: usize,
    x: &[f32],
    w: &[f32],
    b: Option<&[f32]>,
    y: &mut [f32],
    u: Option<&mut [f32]>,
) {
    let (n, o) = (x.len() / i, w.len() / i);
    let affine = |out: &mut [f32]| {
        let (x, w) = (Factor::new(x, i, Layout::Normal), Factor::new(w, i, Layout::Transposed));
        let bias = |_row: usize, col: usize, piece: &mut [f32]| {
            if let Some(b) = b {
                piece.iter_mut().zip(&b[col..]).for_each(|(y, b)| *y += b);
            }
        };
        gemm(&cores.pool, cores.isa, (n, o, i), x, w, out, Store::Write, &bias);
    };
    match u {
        None => affine(y),
        Some(u) => {
            affine(u);
            crate::ops::activation::forward(cores, activation, u, y);
        }
    }
}

/// dx = dy w.
pub fn dx(cores: &Cores, o: usize, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (n, i) = (dy.len() / o, w.len() / o);
    let (a, b) = (Factor::new(dy, o, Layout::Normal), Factor::new(w, i, Layout::Normal));
    product(&cores.pool, cores.isa, (n, i, o), a, b, dx, Store::Write);
}

/// dw = dy^T x and db = the sum of dy's rows.
pub fn dw(cores: &Cores, o: usize, i: usize, dy: &[f32], x: &[f32], dw: &mut [f32], db: Option<&mut [f32]>) {
    let n = dy.len() / o;
    let (a, b) = (Factor::new(dy, o, Layout::Transposed), Factor::new(x, i, Layout::Normal));
    product(&cores.pool, cores.isa, (o, i, n), a, b, dw, Store::Write);
    if let Some(db) = db {
        cores.pool.rows(db, 1, 64, |first, db| column_sums(cores.isa, first, o, dy, db));
    }
}

multiversion! {
    fn column_sums(first: usize, stride: usize, x: &[f32], sums: &mut [f32]) {
        sums.fill(0.0);
        for row in x.chunks_exact(stride) {
            for (sum, x) in sums.iter_mut().zip(&row[first..]) {
                *sum += x;
            }
        }
    }
}
