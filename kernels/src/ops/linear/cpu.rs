use crate::cpu::Cores;
use crate::gemm::{Elements, ElementsMut, Epilogue, Factor, Layout, gemm, product};
use crate::op::{Activation, Rows};
use crate::ops::add_rows;

/// y = act(x w^T + b) for rows of `i`; `u` receives x w^T + b where an activation is asked.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    activation: Activation,
    i: usize,
    x: Elements<'_>,
    w: Elements<'_>,
    bias: Option<&[f32]>,
    y: ElementsMut<'_>,
    u: Option<ElementsMut<'_>>,
) {
    let (n, o) = (x.len() / i, w.len() / i);
    let (precision, x) = (w.precision(), Factor::new(x, i, Layout::Normal));
    let w = Factor::new(w, i, Layout::Transposed);
    gemm(cores, precision, (n, o, i), x, w, y, Epilogue { bias, activation, u, ..Epilogue::default() });
}

/// dx [.., i] = dy w for dy [.., o], w [o, i].
pub fn dx(cores: &Cores, o: usize, dy: Elements<'_>, w: Elements<'_>, dx: ElementsMut<'_>) {
    let (n, i) = (dy.len() / o, w.len() / o);
    let (precision, dy) = (w.precision(), Factor::new(dy, o, Layout::Normal));
    product(cores, precision, (n, i, o), dy, Factor::new(w, i, Layout::Normal), dx);
}

/// dw [o, i] = dy^T x and db [o] = the sum of dy's rows, for dy [.., o], x [.., i].
pub fn dw(
    cores: &Cores,
    o: usize,
    i: usize,
    dy: Elements<'_>,
    x: Elements<'_>,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let n = dy.len() / o;
    let (precision, dy_t) = (x.precision(), Factor::new(dy, o, Layout::Transposed));
    product(cores, precision, (o, i, n), dy_t, Factor::new(x, i, Layout::Normal), dw);
    if let Some(db) = db {
        // The bias is one row that all of dy's rows share.
        match dy {
            Elements::F32(dy) => add_rows::backward(cores, Rows::Batch, n, o, dy, db),
            Elements::Bf16(dy) => add_rows::backward(cores, Rows::Batch, n, o, dy, db),
            Elements::I8(_) => unreachable!("gradients are f32 or bf16 (`slots`)"),
        }
    }
}
