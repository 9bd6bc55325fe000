use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{map, sums};
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;

/// The sizes of a row of q, k and v.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Heads that are normalised: those of q, then those of k.
    pub normed: usize,
    /// All heads, with those of v.
    pub heads: usize,
    /// The width of a head.
    pub d_head: usize,
}

impl Dims {
    /// The sizes of rows of `width` elements.
    pub fn new(width: usize, heads: u32, kv_heads: u32) -> Self {
        let (normed, heads) = (heads as usize + kv_heads as usize, heads as usize + 2 * kv_heads as usize);
        Self { normed, heads, d_head: width / heads }
    }

    fn width(self) -> usize {
        self.heads * self.d_head
    }

    /// Where v begins.
    fn values(self) -> usize {
        self.normed * self.d_head
    }
}

/// Normalises every head of q and k, copies v.
pub fn forward<X: Real>(cores: &Cores, dims: Dims, eps: f32, gain: f32, qkv: &[X], y: &mut [X], stats: &mut [f32]) {
    let (width, v, normed) = (dims.width(), dims.values(), dims.normed);
    cores.pool.rows2(y, width, stats, normed, GRAIN.div_ceil(width), |first, y, stats| {
        for ((n, y), stats) in (first..).zip(y.chunks_exact_mut(width)).zip(stats.chunks_exact_mut(normed)) {
            let x = &qkv[n * width..(n + 1) * width];
            row(cores.isa, eps, gain, dims.d_head, &x[..v], &mut y[..v], stats);
            y[v..].copy_from_slice(&x[v..]);
        }
    });
}

/// The gradient of [`forward`].
pub fn backward<X: Real>(cores: &Cores, dims: Dims, gain: f32, qkv: &[X], stats: &[f32], dy: &[X], dqkv: &mut [X]) {
    let (width, v, normed) = (dims.width(), dims.values(), dims.normed);
    cores.pool.rows(dqkv, width, GRAIN.div_ceil(width), |first, dqkv| {
        for (n, dx) in (first..).zip(dqkv.chunks_exact_mut(width)) {
            let (x, dy) = (&qkv[n * width..][..width], &dy[n * width..][..width]);
            let stats = &stats[n * normed..][..normed];
            row_gradient(cores.isa, gain, dims.d_head, &x[..v], stats, &dy[..v], &mut dx[..v]);
            dx[v..].copy_from_slice(&dy[v..]);
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
