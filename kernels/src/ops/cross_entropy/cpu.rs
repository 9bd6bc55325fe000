use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{exp, max};

/// Elements of one task.
const GRAIN: usize = 16_384;

/// loss `[1]` = sum_n w_n nll_n and nll `[..]` for logits `[.., v]`, target and w `[..]`.
pub fn forward(
    cores: &Cores,
    forbid: Option<u32>,
    logits: &[f32],
    target: &[u32],
    w: &[f32],
    loss: &mut [f32],
    nll: &mut [f32],
) {
    let v = logits.len() / target.len();
    cores.pool.rows(nll, 1, GRAIN.div_ceil(v), |first, nll| {
        negative_log_likelihood(cores.isa, forbid, v, &logits[first * v..], &target[first..], nll);
    });
    loss[0] = weighted_sum(w.iter().copied(), nll) as f32;
}

multiversion! {
    fn negative_log_likelihood(forbid: Option<u32>, v: usize, logits: &[f32], target: &[u32], nll: &mut [f32]) {
        for ((nll, row), &target) in nll.iter_mut().zip(logits.chunks_exact(v)).zip(target) {
            let (left, right) = allowed(row, forbid);
            let top = max(left).max(max(right));
            let mass = |part: &[f32]| sum_of(part, |x| exp(x - top));
            let total = mass(left) + mass(right);
            *nll = match row.get(target as usize) {
                Some(logit) if Some(target) != forbid => total.ln() + (top - logit),
                _ => f32::INFINITY,
            };
        }
    }
}

/// dlogits `[.., v]` for dloss `[1]`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward(
    cores: &Cores,
    forbid: Option<u32>,
    logits: &[f32],
    target: &[u32],
    w: &[f32],
    _nll: &[f32],
    dloss: &[f32],
    dlogits: &mut [f32],
) {
    let v = logits.len() / target.len();
    cores.pool.rows(dlogits, v, GRAIN.div_ceil(v), |first, dlogits| {
        gradient(cores.isa, forbid, v, dloss[0], &logits[first * v..], &target[first..], &w[first..], dlogits);
    });
}

multiversion! {
    fn gradient(
        forbid: Option<u32>,
        v: usize,
        dloss: f32,
        logits: &[f32],
        target: &[u32],
        w: &[f32],
        dlogits: &mut [f32],
    ) {
        let rows = logits.chunks_exact(v).zip(target).zip(w);
        for (dlogits, ((row, &target), &w)) in dlogits.chunks_exact_mut(v).zip(rows) {
            if w == 0.0 {
                dlogits.fill(0.0);
                continue;
            }
            let (left, right) = allowed(row, forbid);
            let top = max(left).max(max(right));
            for (dlogit, &logit) in dlogits.iter_mut().zip(row) {
                *dlogit = exp(logit - top);
            }
            let column = |id: u32| (id as usize) < v;
            if let Some(forbid) = forbid.filter(|&f| column(f)) {
                dlogits[forbid as usize] = 0.0;
            }
            let scale = dloss * w;
            let factor = scale / sum_of(dlogits, |x| x);
            dlogits.iter_mut().for_each(|d| *d *= factor);
            if column(target) && Some(target) != forbid {
                dlogits[target as usize] -= scale;
            }
        }
    }
}

/// The columns of a row on the two sides of the forbidden one.
#[inline(always)]
pub(crate) fn allowed(row: &[f32], forbid: Option<u32>) -> (&[f32], &[f32]) {
    match forbid {
        Some(f) if (f as usize) < row.len() => (&row[..f as usize], &row[f as usize + 1..]),
        _ => (row, &[]),
    }
}

/// sum_j f(x_j) in sixteen lanes and then pairwise. Over the elements and not their indices: without a bound to check,
/// the compiler vectorises an `f` with an exponential in it too.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (body, tail) = x.as_chunks::<16>();
    for chunk in body {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane += f(x);
    }
    let mut width = 8;
    while width > 0 {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// sum_n w_n x_n in f64, in order, over the rows whose weight is not zero.
pub(crate) fn weighted_sum(w: impl Iterator<Item = f32>, x: &[f32]) -> f64 {
    w.zip(x).filter(|(w, _)| *w != 0.0).map(|(w, &x)| f64::from(w) * f64::from(x)).sum()
}
