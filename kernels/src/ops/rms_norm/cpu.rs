use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::sum;

/// Elements of one task.
const GRAIN: usize = 8192;
/// Columns of one task of column sums: four cache lines of every row.
const COLUMNS: usize = 64;

/// y [.., d] = x rstd gain per row, stats [n] = rstd = 1 / sqrt(mean(x^2) + eps).
pub fn forward(cores: &Cores, eps: f32, d: usize, x: &[f32], gain: Option<&[f32]>, y: &mut [f32], stats: &mut [f32]) {
    cores.pool.rows2(y, d, stats, 1, GRAIN.div_ceil(d), |first, y, stats| {
        for ((n, y), rstd) in (first..).zip(y.chunks_exact_mut(d)).zip(stats) {
            normalise(cores.isa, eps, &x[n * d..(n + 1) * d], gain, y, rstd);
        }
    });
}

/// dx = rstd (g - x mean(g x) rstd^2) with g = dy gain; dgain = sum of dy x rstd.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward(
    cores: &Cores,
    d: usize,
    x: &[f32],
    stats: &[f32],
    dy: &[f32],
    gain: Option<&[f32]>,
    dx: &mut [f32],
    dgain: Option<&mut [f32]>,
) {
    cores.pool.rows(dx, d, GRAIN.div_ceil(d), |first, dx| {
        for (n, dx) in (first..).zip(dx.chunks_exact_mut(d)) {
            gradient(cores.isa, &x[n * d..(n + 1) * d], stats[n], &dy[n * d..(n + 1) * d], gain, dx);
        }
    });
    if let Some(dgain) = dgain {
        cores.pool.rows(dgain, 1, COLUMNS, |first, sums| gain_sums(cores.isa, first, d, x, stats, dy, sums));
    }
}

multiversion! {
    fn normalise(eps: f32, x: &[f32], gain: Option<&[f32]>, y: &mut [f32], rstd: &mut f32) {
        let d = x.len();
        *rstd = 1.0 / (sum(d, |i| x[i] * x[i]) / d as f32 + eps).sqrt();
        let r = *rstd;
        match gain {
            Some(gain) => y.iter_mut().zip(x).zip(gain).for_each(|((y, x), g)| *y = x * r * g),
            None => y.iter_mut().zip(x).for_each(|(y, x)| *y = x * r),
        }
    }
}

multiversion! {
    fn gradient(x: &[f32], rstd: f32, dy: &[f32], gain: Option<&[f32]>, dx: &mut [f32]) {
        let d = x.len();
        match gain {
            Some(gain) => dx.iter_mut().zip(dy).zip(gain).for_each(|((dx, dy), g)| *dx = dy * g),
            None => dx.copy_from_slice(dy),
        }
        let projection = sum(d, |i| dx[i] * x[i]) * rstd * rstd / d as f32;
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = rstd * (*dx - x * projection);
        }
    }
}

multiversion! {
    fn gain_sums(first: usize, d: usize, x: &[f32], stats: &[f32], dy: &[f32], sums: &mut [f32]) {
        sums.fill(0.0);
        for ((x, dy), rstd) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(stats) {
            for ((sum, x), dy) in sums.iter_mut().zip(&x[first..]).zip(&dy[first..]) {
                *sum += dy * x * rstd;
            }
        }
    }
}
