use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;

/// Rotates every head of q and k by its position (back if `inverse`), copies v.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(
    cores: &Cores,
    heads: u32,
    inverse: bool,
    len: usize,
    d: usize,
    qkv: &[X],
    table: &[f32],
    y: &mut [X],
) {
    let (width, d_head) = (3 * d, d / heads as usize);
    let sign = if inverse { -1.0 } else { 1.0 };
    cores.pool.rows(y, width, GRAIN.div_ceil(width), |first, y| {
        for (n, y) in (first..).zip(y.chunks_exact_mut(width)) {
            let x = &qkv[n * width..(n + 1) * width];
            let table = &table[n % len * d_head..][..d_head];
            rotate(cores.isa, d_head, sign, &x[..2 * d], table, &mut y[..2 * d]);
            y[2 * d..].copy_from_slice(&x[2 * d..]);
        }
    });
}

multiversion! {
    fn rotate<X: Real>(d_head: usize, sign: f32, qk: &[X], table: &[f32], y: &mut [X]) {
        let half = d_head / 2;
        let (cos, sin) = table.split_at(half);
        for (x, y) in qk.chunks_exact(d_head).zip(y.chunks_exact_mut(d_head)) {
            let ((a, b), (y_a, y_b)) = (x.split_at(half), y.split_at_mut(half));
            let pairs = a.iter().zip(b).zip(y_a.iter_mut().zip(y_b));
            for (((a, b), (y_a, y_b)), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
                let (a, b, sin) = (a.load(), b.load(), sign * sin);
                *y_a = X::store(a * cos - b * sin);
                *y_b = X::store(a * sin + b * cos);
            }
        }
    }
}
