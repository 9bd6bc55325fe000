use crate::columns::sum_rows;
use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{map, sums};
use crate::norm::part;
use crate::pool::{ByRow, ByTask};
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;

/// The sizes of a row of q, k and v.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Heads of q.
    pub queries: usize,
    /// Heads that are normalised: those of q, then those of k.
    pub normed: usize,
    /// All heads, with those of v.
    pub heads: usize,
    /// The width of a head.
    pub d_head: usize,
}

impl Dims {
    /// The sizes of rows of `width` elements.
    pub fn new(width: usize, queries: u32, kv_heads: u32) -> Self {
        let (normed, heads) = (queries as usize + kv_heads as usize, queries as usize + 2 * kv_heads as usize);
        Self { queries: queries as usize, normed, heads, d_head: width / heads }
    }

    fn width(self) -> usize {
        self.heads * self.d_head
    }

    /// The gains of head `h` of q and k, among those of both.
    #[inline(always)]
    fn gains(self, gains: &[f32], h: usize) -> &[f32] {
        let first = if h < self.queries { 0 } else { self.d_head };
        &gains[first..first + self.d_head]
    }

    /// Where v begins.
    fn values(self) -> usize {
        self.normed * self.d_head
    }
}

/// Learned gains, their gradient, and the sums of every task.
pub struct Learned<'a> {
    /// [2 d_head].
    pub gains: &'a [f32],
    /// [2 d_head].
    pub dgains: &'a mut [f32],
    /// [tasks, 2 d_head].
    pub scratch: &'a mut [f32],
}

/// Normalises every head of q and k, copies v.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(
    cores: &Cores,
    dims: Dims,
    eps: f32,
    gain: f32,
    qkv: &[X],
    gains: Option<&[f32]>,
    y: &mut [X],
    stats: &mut [f32],
) {
    let (width, v, normed) = (dims.width(), dims.values(), dims.normed);
    cores.pool.rows2(y, width, stats, normed, GRAIN.div_ceil(width), |first, y, stats| {
        for ((n, y), stats) in (first..).zip(y.chunks_exact_mut(width)).zip(stats.chunks_exact_mut(normed)) {
            let x = &qkv[n * width..(n + 1) * width];
            match gains {
                None => row(cores.isa, eps, gain, dims.d_head, &x[..v], &mut y[..v], stats),
                Some(gains) => learned_row(cores.isa, eps, gain, dims, &x[..v], gains, &mut y[..v], stats),
            }
            y[v..].copy_from_slice(&x[v..]);
        }
    });
}

/// The gradient of [`forward`].
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    dims: Dims,
    gain: f32,
    qkv: &[X],
    stats: &[f32],
    dy: &[X],
    learned: Option<Learned<'_>>,
    dqkv: &mut [X],
) {
    let (width, v, normed) = (dims.width(), dims.values(), dims.normed);
    let rows = |n: usize| (&qkv[n * width..][..width], &dy[n * width..][..width], &stats[n * normed..][..normed]);
    let Some(Learned { gains, dgains, scratch }) = learned else {
        cores.pool.rows(dqkv, width, GRAIN.div_ceil(width), |first, dqkv| {
            for (n, dx) in (first..).zip(dqkv.chunks_exact_mut(width)) {
                let (x, dy, stats) = rows(n);
                row_gradient(cores.isa, gain, dims.d_head, &x[..v], stats, &dy[..v], &mut dx[..v]);
                dx[v..].copy_from_slice(&dy[v..]);
            }
        });
        return;
    };
    let (n, of) = (qkv.len() / width, gains.len());
    let outputs = (ByRow::new(dqkv, width), ByTask::new(scratch, of));
    cores.pool.cut(n, part(n, width), outputs, |first, (dqkv, sums)| {
        sums.fill(0.0);
        for (n, dx) in (first..).zip(dqkv.chunks_exact_mut(width)) {
            let (x, dy, stats) = rows(n);
            learned_row_gradient(cores.isa, gain, dims, &x[..v], stats, &dy[..v], gains, &mut dx[..v], sums);
            dx[v..].copy_from_slice(&dy[v..]);
        }
    });
    sum_rows(cores, scratch, of, scratch.len() / of, dgains);
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
    fn learned_row<X: Real>(
        eps: f32,
        gain: f32,
        dims: Dims,
        qk: &[X],
        gains: &[f32],
        y: &mut [X],
        stats: &mut [f32],
    ) {
        let d_head = dims.d_head;
        let heads = qk.chunks_exact(d_head).zip(y.chunks_exact_mut(d_head)).zip(stats);
        for (h, ((x, y), rstd)) in heads.enumerate() {
            let [square] = sums(x, x, x, |x, _, _| [x * x]);
            let r = 1.0 / (square / d_head as f32 + eps).sqrt();
            *rstd = r;
            map(y, x, dims.gains(gains, h), x, |x, g, _| x * (r * gain) * g);
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

multiversion! {
    fn learned_row_gradient<X: Real>(
        gain: f32,
        dims: Dims,
        qk: &[X],
        stats: &[f32],
        dy: &[X],
        gains: &[f32],
        dx: &mut [X],
        column_sums: &mut [f32],
    ) {
        let d_head = dims.d_head;
        let heads = qk.chunks_exact(d_head).zip(dy.chunks_exact(d_head)).zip(dx.chunks_exact_mut(d_head));
        for (h, (((x, dy), dx), rstd)) in heads.zip(stats).enumerate() {
            let g = dims.gains(gains, h);
            let [along] = sums(x, dy, g, |x, dy, g| [dy * g * x]);
            let projection = along * rstd * rstd / d_head as f32;
            map(dx, x, dy, g, |x, dy, g| gain * rstd * (dy * g - x * projection));
            let first = if h < dims.queries { 0 } else { d_head };
            let column_sums = &mut column_sums[first..first + d_head];
            for ((sum, x), dy) in column_sums.iter_mut().zip(x).zip(dy) {
                *sum += gain * rstd * dy.load() * x.load();
            }
        }
    }
}
