use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{map, sums};
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;

/// Normalises every head of q and k, copies v.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(
    cores: &Cores,
    heads: u32,
    eps: f32,
    gain: f32,
    d: usize,
    qkv: &[X],
    y: &mut [X],
    stats: &mut [f32],
) {
    let (width, heads) = (3 * d, heads as usize);
    cores.pool.rows2(y, width, stats, 2 * heads, GRAIN.div_ceil(width), |first, y, stats| {
        for ((n, y), stats) in (first..).zip(y.chunks_exact_mut(width)).zip(stats.chunks_exact_mut(2 * heads)) {
            let x = &qkv[n * width..(n + 1) * width];
            row(cores.isa, eps, gain, d / heads, &x[..2 * d], &mut y[..2 * d], stats);
            y[2 * d..].copy_from_slice(&x[2 * d..]);
        }
    });
}

/// The gradient of [`forward`].
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    heads: u32,
    gain: f32,
    d: usize,
    qkv: &[X],
    stats: &[f32],
    dy: &[X],
    dqkv: &mut [X],
) {
    let (width, heads) = (3 * d, heads as usize);
    cores.pool.rows(dqkv, width, GRAIN.div_ceil(width), |first, dqkv| {
        for (n, dx) in (first..).zip(dqkv.chunks_exact_mut(width)) {
            let (x, dy) = (&qkv[n * width..][..width], &dy[n * width..][..width]);
            let stats = &stats[n * 2 * heads..][..2 * heads];
            row_gradient(cores.isa, gain, d / heads, &x[..2 * d], stats, &dy[..2 * d], &mut dx[..2 * d]);
            dx[2 * d..].copy_from_slice(&dy[2 * d..]);
        }
    });
}

multiversion! {
    fn row<X: Real>(eps: f32, gain: f32, d_head: usize, qk: &[X], y: &mut [X], stats: &mut [f32]) {
        for ((x, y), rstd) in qk.chunks_exact(d_head).zip(y.chunks_exact_mut(d_head)).zip(stats) {
            let [square] = sums(x, x, x, |x, _, _| [x * x]);
            let r = 1.0 / (square / d_head as f32 + eps).sqrt();
            *rstd = r;
            map(y, x, x, x, |x, _, _| x * (r * gain));
        }
    }
}

multiversion! {
    fn row_gradient<X: Real>(gain: f32, d_head: usize, qk: &[X], stats: &[f32], dy: &[X], dx: &mut [X]) {
        let heads = qk.chunks_exact(d_head).zip(dy.chunks_exact(d_head)).zip(dx.chunks_exact_mut(d_head));
        for (((x, dy), dx), rstd) in heads.zip(stats) {
            let [along] = sums(x, dy, dy, |x, dy, _| [dy * x]);
            let projection = along * rstd * rstd / d_head as f32;
            map(dx, x, dy, dy, |x, dy, _| gain * rstd * (dy - x * projection));
        }
    }
}
