use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::sum;

/// Elements of one task.
const GRAIN: usize = 8192;

/// Normalises every head of q and k, copies v.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    heads: u32,
    eps: f32,
    gain: f32,
    d: usize,
    qkv: &[f32],
    y: &mut [f32],
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
pub fn backward(
    cores: &Cores,
    heads: u32,
    gain: f32,
    d: usize,
    qkv: &[f32],
    stats: &[f32],
    dy: &[f32],
    dqkv: &mut [f32],
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
    fn row(eps: f32, gain: f32, d_head: usize, qk: &[f32], y: &mut [f32], stats: &mut [f32]) {
        for ((x, y), rstd) in qk.chunks_exact(d_head).zip(y.chunks_exact_mut(d_head)).zip(stats) {
            let r = 1.0 / (sum(d_head, |i| x[i] * x[i]) / d_head as f32 + eps).sqrt();
            *rstd = r;
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x * (r * gain));
        }
    }
}

multiversion! {
    fn row_gradient(gain: f32, d_head: usize, qk: &[f32], stats: &[f32], dy: &[f32], dx: &mut [f32]) {
        let heads = qk.chunks_exact(d_head).zip(dy.chunks_exact(d_head)).zip(dx.chunks_exact_mut(d_head));
        for (((x, dy), dx), rstd) in heads.zip(stats) {
            let projection = sum(d_head, |i| dy[i] * x[i]) * rstd * rstd / d_head as f32;
            for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                *dx = gain * rstd * (dy - x * projection);
            }
        }
    }
}
