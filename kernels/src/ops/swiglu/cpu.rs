use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{map, sigmoid};
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;

/// y [.., f] = silu(a) b for u [.., 2 f] = (a, b).
pub fn forward<X: Real>(cores: &Cores, f: usize, u: &[X], y: &mut [X]) {
    cores.pool.rows(y, f, GRAIN.div_ceil(f), |first, y| rows(cores.isa, f, &u[first * 2 * f..], y));
}

/// du = (dy b silu'(a), dy silu(a)).
pub fn backward<X: Real>(cores: &Cores, f: usize, u: &[X], dy: &[X], du: &mut [X]) {
    cores.pool.rows(du, 2 * f, GRAIN.div_ceil(2 * f), |first, du| {
        gradients(cores.isa, f, &u[first * 2 * f..], &dy[first * f..], du);
    });
}

multiversion! {
    /// b = silu(a) b.
    pub(crate) fn gate(a: &[f32], b: &mut [f32]) {
        b.iter_mut().zip(a).for_each(|(b, &a)| *b *= a * sigmoid(a));
    }
}

multiversion! {
    fn rows<X: Real>(f: usize, u: &[X], y: &mut [X]) {
        for (u, y) in u.chunks_exact(2 * f).zip(y.chunks_exact_mut(f)) {
            let (a, b) = u.split_at(f);
            map(y, a, b, b, |a, b, _| a * sigmoid(a) * b);
        }
    }
}

multiversion! {
    fn gradients<X: Real>(f: usize, u: &[X], dy: &[X], du: &mut [X]) {
        for ((u, dy), du) in u.chunks_exact(2 * f).zip(dy.chunks_exact(f)).zip(du.chunks_exact_mut(2 * f)) {
            let ((a, b), (da, db)) = (u.split_at(f), du.split_at_mut(f));
            for ((((da, db), a), b), dy) in da.iter_mut().zip(db).zip(a).zip(b).zip(dy) {
                let (a, b, dy, s) = (a.load(), b.load(), dy.load(), sigmoid(a.load()));
                *da = X::store(dy * b * (s + a * s * (1.0 - s)));
                *db = X::store(dy * a * s);
            }
        }
    }
}
