use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{map, sums};

/// Elements of one task.
const GRAIN: usize = 16_384;

/// y = x / (|x| + eps) for rows of `d`.
pub fn forward(cores: &Cores, eps: f32, d: usize, x: &[f32], y: &mut [f32]) {
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| rows(cores.isa, eps, d, &x[first * d..], y));
}

multiversion! {
    fn rows(eps: f32, d: usize, x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let [square] = sums(x, x, x, |x, _, _| [x * x]);
            let factor = inverse(square.sqrt() + eps);
            map(y, x, x, x, |x, _, _| x * factor);
        }
    }
}

/// dx for x, dy with rows of `d`.
pub fn backward(cores: &Cores, eps: f32, d: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    cores.pool.rows(dx, d, GRAIN.div_ceil(d), |first, dx| {
        gradients(cores.isa, eps, d, &x[first * d..], &dy[first * d..], dx);
    });
}

multiversion! {
    fn gradients(eps: f32, d: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((x, dy), dx) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let [square, dot] = sums(x, dy, dy, |x, dy, _| [x * x, x * dy]);
            let n = square.sqrt();
            let factor = inverse(n + eps);
            let along = dot * factor * inverse(n);
            map(dx, x, dy, dy, |x, dy, _| (dy - x * along) * factor);
        }
    }
}

/// 1 / x, and 0 for 0: a row of zeros without an eps has no direction.
#[inline(always)]
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}
