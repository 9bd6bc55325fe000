use crate::cpu::Cores;
use crate::gemm::{Batch, Elements, ElementsMut, Epilogue, Factor, Layout, Precision, gemm_batch};
use crate::isa::multiversion;
use crate::op::{Hyper, Muon};
use crate::ops::global_norm::{clip, sum_of_squares};
use crate::pool::ByRow;

/// The quintic's coefficients (Jordan et al. 2024).
pub(super) const A: f32 = 3.4445;
pub(super) const B: f32 = -4.7750;
pub(super) const C: f32 = 2.0315;
/// Added to the Frobenius norm, so that a zero gradient moves nothing.
pub(super) const TINY: f32 = 1e-7;

/// Elements of one task.
const GRAIN: usize = 16_384;

/// What the products of a step write: x, next `[n, r, c]`, gram, poly `[n, s, s]`.
pub struct Scratch<'a> {
    /// The matrices, and the factors in the end if the number of iterations is even.
    pub x: &'a mut [f32],
    /// The next ones.
    pub next: &'a mut [f32],
    /// Products of the rows, or of the columns if these are fewer.
    pub gram: &'a mut [f32],
    /// b gram + c gram^2.
    pub poly: &'a mut [f32],
}

/// One step on the matrices of param and momentum `[n, r, c]` for the gradients g.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn step(
    cores: &Cores,
    muon: Muon,
    (r, c): (usize, usize),
    g: &[f32],
    norm: &[f32],
    hyper: &[f32],
    param: &mut [f32],
    momentum: &mut [f32],
    scratch: Scratch<'_>,
) {
    let (clip, mu, isa) = (clip(hyper[Hyper::MAX_NORM], norm[0]), muon.momentum, cores.isa);
    let outputs = (ByRow::new(momentum, 1), ByRow::new(&mut *scratch.x, 1));
    cores.pool.cut(g.len(), GRAIN, outputs, |first, (momentum, x)| advance(isa, clip, mu, &g[first..], momentum, x));
    for x in scratch.x.chunks_exact_mut(r * c) {
        let inverse = 1.0 / (sum_of_squares(cores, x).sqrt() as f32 + TINY);
        cores.pool.rows(x, 1, GRAIN, |_, x| scale(isa, inverse, x));
    }
    let factor = orthogonalise(cores, muon.iterations, (r, c), scratch);

    let lr = hyper[Hyper::MUON_LR];
    let (shrink, rate) = (lr * muon.weight_decay, lr * (r as f32 / c as f32).max(1.0).sqrt());
    cores.pool.rows(param, 1, GRAIN, |first, param| apply(isa, shrink, rate, &factor[first..], param));
}

multiversion! {
    /// momentum = mu momentum + clip g, x = clip g + mu momentum.
    fn advance(clip: f32, mu: f32, g: &[f32], momentum: &mut [f32], x: &mut [f32]) {
        for ((momentum, x), &g) in momentum.iter_mut().zip(x).zip(g) {
            *momentum = mu * *momentum + clip * g;
            *x = clip * g + mu * *momentum;
        }
    }
}

multiversion! {
    fn scale(by: f32, x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x *= by);
    }
}

multiversion! {
    fn apply(shrink: f32, rate: f32, factor: &[f32], param: &mut [f32]) {
        for (param, &factor) in param.iter_mut().zip(factor) {
            *param -= shrink * *param + rate * factor;
        }
    }
}

/// Newton-Schulz iterations on every x `[r, c]`; returns whichever of x and next holds the results.
fn orthogonalise<'a>(cores: &Cores, iterations: u32, (r, c): (usize, usize), scratch: Scratch<'a>) -> &'a [f32] {
    let Scratch { mut x, mut next, gram, poly } = scratch;
    let (count, s, size, tall) = (x.len() / (r * c), r.min(c), r * c, r > c);
    let batch = |a: usize, b: usize, symmetric: bool| Batch { count, a, b, symmetric };
    for _ in 0..iterations {
        // gram = X X^T; of a tall matrix X^T X, by which the quintic is multiplied from the right.
        let (rows, columns) = (Factor::new(&*x, c, Layout::Normal), Factor::new(&*x, c, Layout::Transposed));
        let (left, right) = if tall { (columns, rows) } else { (rows, columns) };
        let (shape, to) = ((s, s, size / s), ElementsMut::F32(gram));
        gemm_batch(cores, Precision::F32, batch(size, size, true), shape, left, right, to, Epilogue::default());
        // poly = b gram + c gram^2, next = a x + poly x.
        let square = Factor::new(&*gram, s, Layout::Normal);
        let epilogue = Epilogue { scale: C, residual: Some((B, Elements::F32(gram))), ..Epilogue::default() };
        let (shape, to) = ((s, s, s), ElementsMut::F32(poly));
        gemm_batch(cores, Precision::F32, batch(s * s, s * s, true), shape, square, square, to, epilogue);
        let poly = Factor::new(&*poly, s, Layout::Normal);
        let (left, right, a, b) = if tall { (rows, poly, size, s * s) } else { (poly, rows, s * s, size) };
        let epilogue = Epilogue { residual: Some((A, Elements::F32(x))), ..Epilogue::default() };
        let (shape, to) = ((r, c, s), ElementsMut::F32(next));
        gemm_batch(cores, Precision::F32, batch(a, b, false), shape, left, right, to, epilogue);
        std::mem::swap(&mut x, &mut next);
    }
    x
}
