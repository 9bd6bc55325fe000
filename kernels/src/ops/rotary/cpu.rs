use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;

/// The sizes of a rotation.
#[derive(Clone, Copy)]
pub struct Dims {
    /// Heads of q and k, which come first.
    pub turned: usize,
    /// Heads of q, k and v.
    pub heads: usize,
    /// The width of a head.
    pub d_head: usize,
    /// Positions.
    pub len: usize,
}

/// Rotates every head of q and k by its position, which begin at `past` (back if `inverse`), copies v.
///
/// # Panics
/// If the table of `table.len() / d_head` positions ends before `past + len`.
pub fn forward<X: Real>(cores: &Cores, dims: Dims, inverse: bool, past: usize, qkv: &[X], table: &[f32], y: &mut [X]) {
    let Dims { turned, heads, d_head, len } = dims;
    let width = heads * d_head;
    let positions = table.len() / d_head;
    assert!(past + len <= positions, "rotary: {past} positions and {len} more, of {positions} in the table");
    let (sign, end) = (if inverse { -1.0 } else { 1.0 }, turned * d_head);
    cores.pool.rows(y, width, GRAIN.div_ceil(width), |first, y| {
        for (n, y) in (first..).zip(y.chunks_exact_mut(width)) {
            let x = &qkv[n * width..(n + 1) * width];
            let table = &table[(past + n % len) * d_head..][..d_head];
            rotate(cores.isa, d_head, sign, &x[..end], table, &mut y[..end]);
            y[end..].copy_from_slice(&x[end..]);
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
