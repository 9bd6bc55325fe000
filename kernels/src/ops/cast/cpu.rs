use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 16_384;

/// y = x.
pub fn cast<X: Real, Y: Real>(cores: &Cores, x: &[X], y: &mut [Y]) {
    multiversion! {
        fn piece<X: Real, Y: Real>(x: &[X], y: &mut [Y]) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = Y::store(x.load()));
        }
    }
    cores.pool.rows(y, 1, GRAIN, |i, y| piece(cores.isa, &x[i..i + y.len()], y));
}
