//! The linear layer and its gradients as products on CUDA.

use crate::cuda::{Launches, Machine, Place};
use crate::gemm::cuda::{Descend, End, Finish, Form, Matrix, Product, column_sums, gate, later, reserve};
use crate::gemm::packed_words;
use crate::op::{Activation, AdamW};
use crate::program::Inst;
use galatea_tensor::DType;

/// y = act(x w^T + b), and u if it is kept.
pub(crate) fn forward(inst: &Inst, machine: Machine, bias: bool, activation: Activation, keep: bool) -> Launches {
    let (x, w, y) = (inst.reads[0], inst.reads[1], inst.writes[0]);
    let (bias, u) = (bias.then(|| inst.reads[2].into()), keep.then(|| inst.writes[1].into()));
    let finish = Finish { bias, activation, u, ..Finish::plain(y) };
    let (n, o, i) = (x.shape.rows(), w.shape.dim(0), w.shape.dim(1));
    let mut plan = Launches::default();
    if activation == Activation::SwiGlu {
        // One product for both halves, in f32 until they have met.
        let sums = reserve(&mut plan, n * o * size_of::<f32>());
        let product = Finish::plain(Matrix { place: sums, dtype: DType::F32 });
        layer((n, o, i), x.into(), w.into(), product).plan(machine, &mut plan);
        let finish = Finish { activation: Activation::None, ..finish };
        gate((n, o / 2), (sums, later(sums, o / 2 * size_of::<f32>()), o), finish, &mut plan);
    } else {
        layer((n, o, i), x.into(), w.into(), finish).plan(machine, &mut plan);
    }
    plan
}

/// The same with packed weights: rows as they are, in the order of w; for a gate the two halves, each with its words.
pub(crate) fn packed(inst: &Inst, machine: Machine, bias: bool, activation: Activation, o: u32) -> Launches {
    let (x, words, y) = (inst.reads[0], inst.reads[1], inst.writes[0]);
    let finish = Finish { bias: bias.then(|| inst.reads[2].into()), activation, ..Finish::plain(y) };
    let (n, o, i) = (x.shape.rows(), o as usize / activation.halves(), x.shape.cols());
    let weights = |first: usize| Matrix { place: later(words.into(), first * size_of::<u32>()), dtype: DType::Bf16 };
    let mut plan = Launches::default();
    if activation == Activation::SwiGlu {
        let halves = [0, packed_words(o, i)].map(|first| {
            let sums = reserve(&mut plan, n * o * size_of::<f32>());
            let product = Finish::plain(Matrix { place: sums, dtype: DType::F32 });
            layer((n, o, i), x.into(), weights(first), product).plan(machine, &mut plan);
            sums
        });
        let finish = Finish { activation: Activation::None, ..finish };
        gate((n, o), (halves[0], halves[1], o), finish, &mut plan);
    } else {
        layer((n, o, i), x.into(), weights(0), finish).plan(machine, &mut plan);
    }
    plan
}

/// x w^T for rows x and rows w of i.
fn layer(shape: (usize, usize, usize), a: Matrix, b: Matrix, finish: Finish) -> Product {
    Product { form: Form::Nt, shape, dtype: b.dtype, a, b, end: End::Finish(finish), split: false, count: 1 }
}

/// dx = dy w.
pub(crate) fn dx(inst: &Inst, machine: Machine) -> Launches {
    let (dy, w) = (inst.reads[0], inst.reads[1]);
    let shape = (dy.shape.rows(), w.shape.dim(1), w.shape.dim(0));
    let (a, b, end) = (dy.into(), Matrix::from(w), End::Finish(Finish::plain(inst.writes[0])));
    planned(Product { form: Form::Nn, shape, dtype: b.dtype, a, b, end, split: false, count: 1 }, machine)
}

/// dw = dy^T x, and db.
pub(crate) fn dw(inst: &Inst, machine: Machine, bias: bool) -> Launches {
    gradient(inst, machine, End::Finish(Finish::plain(inst.writes[0])), bias.then(|| inst.writes[1].into()))
}

/// dw, which moves the weights and is stored nowhere; and db.
pub(crate) fn dw_adamw(inst: &Inst, machine: Machine, (bias, ema, copy): (bool, bool, bool), adamw: AdamW) -> Launches {
    let mut next = 3..;
    let mut take = |asked: bool| if asked { next.next().map(|i| Place::from(inst.writes[i])) } else { None };
    let (ema, copy, db) = (take(ema), take(copy), take(bias));
    let state = [0, 1, 2].map(|i| inst.writes[i].into());
    let descend = Descend { state, ema, copy, hyper: inst.reads[2].into(), adamw };
    gradient(inst, machine, End::Descend(descend), db)
}

fn gradient(inst: &Inst, machine: Machine, end: End, db: Option<Place>) -> Launches {
    let (dy, x) = (inst.reads[0], inst.reads[1]);
    let (n, o, i) = (dy.shape.rows(), dy.shape.cols(), x.shape.cols());
    let (a, b) = (Matrix::from(dy), Matrix::from(x));
    let mut plan = planned(
        Product { form: Form::Tn, shape: (o, i, n), dtype: b.dtype, a, b, end, split: true, count: 1 },
        machine,
    );
    if let Some(db) = db {
        column_sums(machine, a, (n, o), db, &mut plan);
    }
    plan
}

fn planned(product: Product, machine: Machine) -> Launches {
    let mut plan = Launches::default();
    product.plan(machine, &mut plan);
    plan
}
