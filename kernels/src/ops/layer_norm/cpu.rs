use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::sum;
use crate::op::Rows;
use crate::ops::add_rows;

/// Elements of one task.
const GRAIN: usize = 8192;
/// Columns of one task of column sums: four cache lines of every row.
const COLUMNS: usize = 64;

/// y [.., d] = (x - mean) rstd gain + shift per row; stats [n, 2] = (mean, rstd).
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
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
    cores.pool.rows2(y, d, stats, 2, GRAIN.div_ceil(d), |first, y, stats| {
        for ((n, y), stats) in (first..).zip(y.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(2)) {
            normalise(cores.isa, eps, &x[n * d..(n + 1) * d], gain, shift, y, stats);
        }
    });
}

/// dx = rstd (g - mean(g) - x_hat mean(g x_hat)) with g = dy gain; dgain = sum of dy x_hat, dshift = sum of dy.
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
    dshift: Option<&mut [f32]>,
) {
    cores.pool.rows(dx, d, GRAIN.div_ceil(d), |first, dx| {
        for (n, dx) in (first..).zip(dx.chunks_exact_mut(d)) {
            let row = n * d..(n + 1) * d;
            gradient(cores.isa, &x[row.clone()], &stats[2 * n..2 * n + 2], &dy[row], gain, dx);
        }
    });
    if let Some(dgain) = dgain {
        cores.pool.rows(dgain, 1, COLUMNS, |first, sums| gain_sums(cores.isa, first, d, x, stats, dy, sums));
    }
    if let Some(dshift) = dshift {
        // The shift is one row that all of dy's rows share.
        add_rows::backward(cores, Rows::Batch, dy.len() / d, d, dy, dshift);
    }
}

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
    fn gain_sums(first: usize, d: usize, x: &[f32], stats: &[f32], dy: &[f32], sums: &mut [f32]) {
        sums.fill(0.0);
        for ((x, dy), stats) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(stats.as_chunks::<2>().0) {
            for ((sum, x), dy) in sums.iter_mut().zip(&x[first..]).zip(&dy[first..]) {
                *sum += dy * (x - stats[0]) * stats[1];
            }
        }
    }
}
