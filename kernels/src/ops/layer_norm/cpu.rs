//! CPU kernels.

use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::sum;

multiversion! {
    fn normalise(eps: f32, x: &[f32], gain: Option<&[f32]>, shift: Option<&[f32]>, y: &mut [f32], stats: &mut [f32]) {
        let d = x.len();
        let mean = sum(d, |i| x[i]) / d as f32;
        let variance = sum(d, |i| (x[i] - mean) * (x[i] - mean)) / d as f32;
        let rstd = 1.0 / (variance + eps).sqrt();
        (stats[0], stats[1]) = (mean, rstd);
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) * rstd;
        }
        if let Some(gain) = gain {
            y.iter_mut().zip(gain).for_each(|(y, g)| *y *= g);
        }
        if let Some(shift) = shift {
            y.iter_mut().zip(shift).for_each(|(y, b)| *y += b);
        }
    }
}

multiversion! {
    fn gradient(x: &[f32], stats: &[f32], dy: &[f32], gain: Option<&[f32]>, dx: &mut [f32]) {
        let (d, mean, rstd) = (x.len(), stats[0], stats[1]);
        match gain {
            Some(gain) => dx.iter_mut().zip(dy).zip(gain).for_each(|((dx, dy), g)| *dx = dy * g),
            None => dx.copy_from_slice(dy),
        }
        let average = sum(d, |i| dx[i]) / d as f32;
        let projection = sum(d, |i| dx[i] * (x[i] - mean) * rstd) / d as f32;
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = rstd * (*dx - average - (x - mean) * rstd * projection);
        }
    }
}

multiversion! {
    fn column_sums(first: usize, d: usize, x: &[f32], stats: &[f32], dy: &[f32], scaled: bool, sums: &mut [f32]) {
        sums.fill(0.0);
        for ((x, dy), stats) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(stats.as_chunks::<2>().0) {
            let each = sums.iter_mut().zip(&x[first..]).zip(&dy[first..]);
            if scaled {
                each.for_each(|((sum, x), dy)| *sum += dy * (x - stats[0]) * stats[1]);
            } else {
                each.for_each(|((sum, _), dy)| *sum += dy);
            }
        }
    }
}

/// y = (x - mean) rstd gain + shift per row; stats = (mean, rstd).
#[expect(clippy::too_many_arguments, reason = "the op's own tensors")]
pub fn forward(
    cores: &Cores,
    eps: f32,
    d: usize,
    x: &[f32],
    gain: Option<&[f32]>,
    shift: Option<&[f32]>,
    y: &mut [f32],
    stats: &mut [f32],
) {
    cores.pool.rows2(y, d, stats, 2, (8192 / d).max(1), |first, y, stats| {
        for ((n, y), stats) in (first..).zip(y.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(2)) {
            normalise(cores.isa, eps, &x[n * d..(n + 1) * d], gain, shift, y, stats);
        }
    });
}

/// dx = rstd (g - mean(g) - x_hat mean(g x_hat)) with g = dy gain; dgain = sum of dy x_hat, dshift = sum of dy.
#[expect(clippy::too_many_arguments, reason = "the op's own tensors")]
pub fn backward(
    cores: &Cores,
    d: usize,
    x: &[f32],
    stats: &[f32],
    dy: &[f32],
    gain: Option<&[f32]>,
    dx: &mut [f32],
    dgain: Option<&mut [f32]>,
    dshift: Option<&mut [f32]>,
) {
    cores.pool.rows(dx, d, (8192 / d).max(1), |first, dx| {
        for (n, dx) in (first..).zip(dx.chunks_exact_mut(d)) {
            let row = n * d..(n + 1) * d;
            gradient(cores.isa, &x[row.clone()], &stats[2 * n..2 * n + 2], &dy[row], gain, dx);
        }
    });
    for (sums, scaled) in [(dgain, true), (dshift, false)] {
        if let Some(sums) = sums {
            let task = |first: usize, sums: &mut [f32]| column_sums(cores.isa, first, d, x, stats, dy, scaled, sums);
            cores.pool.rows(sums, 1, 64, task);
        }
    }
}
