use crate::cpu::Cores;
use crate::gemm::{Elements, ElementsMut, Epilogue, Factor, Layout, Precision, gemm, product};
use crate::isa::multiversion;
use crate::op::{Hyper, Muon};
use crate::ops::global_norm::{clip, sum_of_squares};

/// The quintic's coefficients (Jordan et al. 2024).
pub(super) const A: f32 = 3.4445;
pub(super) const B: f32 = -4.7750;
pub(super) const C: f32 = 2.0315;
/// Added to the Frobenius norm, so that a zero gradient moves nothing.
pub(super) const TINY: f32 = 1e-7;

/// Elements of one task.
const GRAIN: usize = 16_384;
/// Rows of one task where one side is read across: sixteen of them share a cache line of the other side.
const LINE: usize = 16;

/// One step on param and momentum `[r, c]` for the gradient g; x, next `[s, k]` and gram, poly `[s, s]` are scratch.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn step(
    cores: &Cores,
    muon: Muon,
    r: usize,
    c: usize,
    g: &[f32],
    norm: &[f32],
    hyper: &[f32],
    param: &mut [f32],
    momentum: &mut [f32],
    x: &mut [f32],
    next: &mut [f32],
    gram: &mut [f32],
    poly: &mut [f32],
) {
    let (clip, mu) = (clip(hyper[Hyper::MAX_NORM], norm[0]), muon.momentum);
    cores.pool.rows(momentum, 1, GRAIN, |first, momentum| accumulate(cores.isa, clip, mu, &g[first..], momentum));
    let momentum: &[f32] = momentum;
    let u = |i: usize| clip * g[i] + mu * momentum[i];
    let (s, k) = (r.min(c), r.max(c));
    cores.pool.rows(x, k, LINE, |first, x| {
        if r > c {
            let rows = x.len() / k;
            for i in 0..r {
                for j in 0..rows {
                    x[j * k + i] = u(i * c + first + j);
                }
            }
        } else {
            x.iter_mut().enumerate().for_each(|(i, x)| *x = u(first * k + i));
        }
    });
    let inverse = 1.0 / (sum_of_squares(cores, x).sqrt() as f32 + TINY);
    cores.pool.rows(x, 1, GRAIN, |_, x| x.iter_mut().for_each(|x| *x *= inverse));
    let factor = orthogonalise(cores, muon.iterations, s, k, x, next, gram, poly);

    let (lr, scale) = (hyper[Hyper::MUON_LR], (r as f32 / c as f32).max(1.0).sqrt());
    let shrink = lr * muon.weight_decay;
    let apply = |param: &mut f32, factor: f32| *param -= shrink * *param + lr * scale * factor;
    cores.pool.rows(param, c, LINE, |first, param| {
        if r > c {
            let rows = param.len() / c;
            for j in 0..c {
                for i in 0..rows {
                    apply(&mut param[i * c + j], factor[j * k + first + i]);
                }
            }
        } else {
            param.iter_mut().zip(&factor[first * c..]).for_each(|(param, &factor)| apply(param, factor));
        }
    });
}

multiversion! {
    fn accumulate(clip: f32, mu: f32, g: &[f32], momentum: &mut [f32]) {
        for (momentum, &g) in momentum.iter_mut().zip(g) {
            *momentum = mu * *momentum + clip * g;
        }
    }
}

/// Newton-Schulz iterations on x `[s, k]`; returns whichever of x and next holds the result.
#[expect(clippy::too_many_arguments, reason = "the matrix and its scratch")]
fn orthogonalise<'a>(
    cores: &Cores,
    iterations: u32,
    s: usize,
    k: usize,
    mut x: &'a mut [f32],
    mut next: &'a mut [f32],
    gram: &mut [f32],
    poly: &mut [f32],
) -> &'a [f32] {
    for _ in 0..iterations {
        let (rows, columns) = (Factor::new(&*x, k, Layout::Normal), Factor::new(&*x, k, Layout::Transposed));
        product(cores, Precision::F32, (s, s, k), rows, columns, &mut *gram);
        // poly = b gram + c gram^2, next = a x + poly x.
        let square = Factor::new(&*gram, s, Layout::Normal);
        let epilogue = Epilogue { scale: C, residual: Some((B, Elements::F32(gram))), ..Epilogue::default() };
        gemm(cores, Precision::F32, (s, s, s), square, square, ElementsMut::F32(poly), epilogue);
        let poly = Factor::new(&*poly, s, Layout::Normal);
        let epilogue = Epilogue { residual: Some((A, Elements::F32(x))), ..Epilogue::default() };
        gemm(cores, Precision::F32, (s, k, s), poly, rows, ElementsMut::F32(next), epilogue);
        std::mem::swap(&mut x, &mut next);
    }
    x
}
