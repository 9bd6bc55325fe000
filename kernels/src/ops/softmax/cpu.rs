use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{exp, map, max, sums};

/// Elements of one task.
const GRAIN: usize = 16_384;

/// p = softmax(x) for rows of `v`.
pub fn forward(cores: &Cores, v: usize, x: &[f32], p: &mut [f32]) {
    cores.pool.rows(p, v, GRAIN.div_ceil(v), |first, p| rows(cores.isa, v, &x[first * v..], p));
}

multiversion! {
    fn rows(v: usize, x: &[f32], p: &mut [f32]) {
        for (x, p) in x.chunks_exact(v).zip(p.chunks_exact_mut(v)) {
            let top = max(x);
            map(p, x, x, x, |x, _, _| exp(x - top));
            let [total] = sums(p, p, p, |p, _, _| [p]);
            let factor = 1.0 / total;
            p.iter_mut().for_each(|p| *p *= factor);
        }
    }
}

/// dx for p, dy with rows of `v`.
pub fn backward(cores: &Cores, v: usize, p: &[f32], dy: &[f32], dx: &mut [f32]) {
    cores.pool.rows(dx, v, GRAIN.div_ceil(v), |first, dx| {
        gradients(cores.isa, v, &p[first * v..], &dy[first * v..], dx);
    });
}

multiversion! {
    fn gradients(v: usize, p: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((p, dy), dx) in p.chunks_exact(v).zip(dy.chunks_exact(v)).zip(dx.chunks_exact_mut(v)) {
            let [mean] = sums(p, dy, dy, |p, dy, _| [p * dy]);
            map(dx, p, dy, dy, |p, dy, _| p * (dy - mean));
        }
    }
}
