use crate::cpu::Cores;
use crate::gemm::{
    Elements, ElementsMut, Epilogue, Factor, Layout, gemm, gemm_of_few, product, product_into, product_packed,
};
use crate::op::{Activation, AdamW, Rows};
use crate::ops::adamw::{State, Tiles};
use crate::ops::add_rows;
use galatea_tensor::bf16;

/// y = act(x w^T + b) for rows of `i`; `u` receives x w^T + b. `few` asks for dot products.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    activation: Activation,
    few: bool,
    i: usize,
    x: Elements<'_>,
    w: Elements<'_>,
    bias: Option<&[f32]>,
    y: ElementsMut<'_>,
    u: Option<ElementsMut<'_>>,
) {
    let (n, columns) = (x.len() / i, w.len() / i / activation.halves());
    let (precision, x) = (w.precision(), Factor::new(x, i, Layout::Normal));
    let w = Factor::new(w, i, Layout::Transposed);
    let product = if few { gemm_of_few } else { gemm };
    product(cores, precision, (n, columns, i), x, w, y, Epilogue { bias, activation, u, ..Epilogue::default() });
}

/// y = act(x w^T + b) for rows of `i` and `o` packed rows of weights.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn packed(
    cores: &Cores,
    activation: Activation,
    i: usize,
    o: usize,
    x: &[bf16],
    words: &[u32],
    bias: Option<&[f32]>,
    y: &mut [bf16],
) {
    let (n, x) = (x.len() / i, Factor::new(x, i, Layout::Normal));
    let epilogue = Epilogue { bias, activation, ..Epilogue::default() };
    product_packed(cores, (n, o / activation.halves(), i), x, words, ElementsMut::Bf16(y), epilogue);
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
    bias_gradient(cores, o, dy, db);
}

/// dw as in [`dw`], which moves the weights tile by tile and is stored nowhere; and db.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn dw_adamw(
    cores: &Cores,
    o: usize,
    i: usize,
    dy: Elements<'_>,
    x: Elements<'_>,
    (adamw, hyper): (AdamW, &[f32]),
    state: State<'_>,
    db: Option<&mut [f32]>,
) {
    let n = dy.len() / o;
    let (precision, dy_t) = (x.precision(), Factor::new(dy, o, Layout::Transposed));
    let sink = Tiles::new(adamw, hyper, i, state);
    product_into(cores, precision, (o, i, n), dy_t, Factor::new(x, i, Layout::Normal), &sink);
    bias_gradient(cores, o, dy, db);
}

/// db [o] = the sum of dy's rows.
fn bias_gradient(cores: &Cores, o: usize, dy: Elements<'_>, db: Option<&mut [f32]>) {
    if let Some(db) = db {
        // The bias is one row that all of dy's rows share.
        match dy {
            Elements::F32(dy) => add_rows::backward(cores, Rows::Batch, 1, o, dy, db),
            Elements::Bf16(dy) => add_rows::backward(cores, Rows::Batch, 1, o, dy, db),
            Elements::I8(_) => unreachable!("gradients are f32 or bf16 (`slots`)"),
        }
    }
}
