use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 16_384;

/// y = a + b.
pub fn add<X: Real>(cores: &Cores, a: &[X], b: &[X], y: &mut [X]) {
    multiversion! {
        fn piece<X: Real>(a: &[X], b: &[X], y: &mut [X]) {
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                *y = X::store(a.load() + b.load());
            }
        }
    }
    cores.pool.rows(y, 1, GRAIN, |i, y| piece(cores.isa, &a[i..i + y.len()], &b[i..i + y.len()], y));
}

/// y += x.
pub fn accumulate(cores: &Cores, x: &[f32], y: &mut [f32]) {
    multiversion! {
        fn piece(x: &[f32], y: &mut [f32]) {
            for (y, x) in y.iter_mut().zip(x) {
                *y += x;
            }
        }
    }
    cores.pool.rows(y, 1, GRAIN, |i, y| piece(cores.isa, &x[i..i + y.len()], y));
}
