use crate::cpu::Cores;
use crate::gemm::{Factor, Layout, Store, gemm, product};
use crate::op::{Activation, Rows};
use crate::ops::{activation as act, add_rows};

/// y = act(x w^T + b) for rows of `i`; `u` receives x w^T + b where an activation is asked.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
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
            act::forward(cores, activation, u, y);
        }
    }
}

/// dx [.., i] = dy w for dy [.., o], w [o, i].
pub fn dx(cores: &Cores, o: usize, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (n, i) = (dy.len() / o, w.len() / o);
    let (dy, w) = (Factor::new(dy, o, Layout::Normal), Factor::new(w, i, Layout::Normal));
    product(&cores.pool, cores.isa, (n, i, o), dy, w, dx, Store::Write);
}

/// dw [o, i] = dy^T x and db [o] = the sum of dy's rows, for dy [.., o], x [.., i].
pub fn dw(cores: &Cores, o: usize, i: usize, dy: &[f32], x: &[f32], dw: &mut [f32], db: Option<&mut [f32]>) {
    let n = dy.len() / o;
    let (dy_t, x) = (Factor::new(dy, o, Layout::Transposed), Factor::new(x, i, Layout::Normal));
    product(&cores.pool, cores.isa, (o, i, n), dy_t, x, dw, Store::Write);
    if let Some(db) = db {
        // The bias is one row that all of dy's rows share.
        add_rows::backward(cores, Rows::Batch, n, o, dy, db);
    }
}
