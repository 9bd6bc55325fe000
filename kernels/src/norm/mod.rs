//! Rows of layer norm and RMS norm: the second is the first with a mean of zero.

pub(crate) mod cuda;

use crate::columns::sum_rows;
use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{map, sums};
use crate::op::Norm;
use crate::ops::dropout::Mask;
use crate::pool::{ByRow, ByTask};
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 16_384;
/// The most tasks of a backward pass: each keeps column sums of its own.
const PARTS: usize = 64;

/// Rows of one task.
pub(crate) fn grain(d: usize) -> usize {
    GRAIN.div_ceil(d)
}

/// Rows of one task of a backward pass over `n` rows: a function of the shape, so that sums are in one order for any
/// number of threads.
pub(crate) fn part(n: usize, d: usize) -> usize {
    grain(d).max(n.div_ceil(PARTS))
}

/// The tasks of a backward pass over `n` rows: rows of its scratch.
pub(crate) fn parts(n: usize, d: usize) -> usize {
    n.div_ceil(part(n, d))
}

impl Norm {
    /// Numbers a row that the forward pass leaves to the backward pass.
    pub(crate) fn stats(self) -> usize {
        match self {
            Norm::Layer => 2,
            Norm::Rms => 1,
        }
    }
}

/// y = (x - mean) rstd gain + shift for one row; stats = (mean, rstd) or (rstd).
#[inline(always)]
pub(crate) fn normalise<X: Real>(
    norm: Norm,
    eps: f32,
    x: &[X],
    gain: Option<&[f32]>,
    shift: Option<&[f32]>,
    y: &mut [X],
    stats: &mut [f32],
) {
    let d = x.len() as f32;
    let mean = match norm {
        Norm::Layer => sums(x, x, x, |x, _, _| [x])[0] / d,
        Norm::Rms => 0.0,
    };
    // Around the mean: a large mean costs no accuracy.
    let [square] = sums(x, x, x, |x, _, _| [(x - mean) * (x - mean)]);
    let rstd = 1.0 / (square / d + eps).sqrt();
    match norm {
        Norm::Layer => (stats[0], stats[1]) = (mean, rstd),
        Norm::Rms => stats[0] = rstd,
    }
    match (gain, shift) {
        (Some(gain), Some(shift)) => map(y, x, gain, shift, |x, g, b| (x - mean) * rstd * g + b),
        (Some(gain), None) => map(y, x, gain, gain, |x, g, _| (x - mean) * rstd * g),
        (None, Some(shift)) => map(y, x, shift, shift, |x, b, _| (x - mean) * rstd + b),
        (None, None) => map(y, x, x, x, |x, _, _| (x - mean) * rstd),
    }
}

/// What a backward pass reads: x [n, d], stats, dy like x, gain [d], and what is added to the gradient of x.
#[derive(Clone, Copy)]
pub(crate) struct Gradient<'a, X> {
    pub(crate) norm: Norm,
    pub(crate) d: usize,
    pub(crate) x: &'a [X],
    pub(crate) stats: &'a [f32],
    pub(crate) dy: &'a [X],
    pub(crate) gain: Option<&'a [f32]>,
    pub(crate) plus: Option<&'a [X]>,
}

/// The column sums that a backward pass writes; `scratch` holds those of every task, gain before shift.
pub(crate) struct ColumnSums<'a> {
    pub(crate) dgain: Option<&'a mut [f32]>,
    pub(crate) dshift: Option<&'a mut [f32]>,
    pub(crate) scratch: Option<&'a mut [f32]>,
}

impl<X: Real> Gradient<'_, X> {
    /// dx, its dropped copy where a mask is given, and the column sums, in one pass over the rows.
    pub(crate) fn run(self, cores: &Cores, dx: &mut [X], dropped: Option<(Mask, &mut [X])>, columns: ColumnSums<'_>) {
        let Self { norm, d, x, stats, dy, plus, .. } = self;
        let ColumnSums { dgain, dshift, scratch } = columns;
        let (n, tables) = (x.len() / d, usize::from(dgain.is_some()) + usize::from(dshift.is_some()));
        let (mut none, has_shift, width) = ([], dshift.is_some(), norm.stats());
        let scratch = scratch.unwrap_or(&mut none);
        let (mask, dh) = dropped.unzip();
        let outputs = (ByRow::new(dx, d), dh.map(|dh| ByRow::new(dh, d)), ByTask::new(scratch, tables * d));
        cores.pool.cut(n, part(n, d), outputs, |first, (dx, mut dh, sums)| {
            sums.fill(0.0);
            for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
                let n = first + i;
                let row = n * d..(n + 1) * d;
                let (x, dy, plus) = (&x[row.clone()], &dy[row.clone()], plus.map(|plus| &plus[row]));
                let stats = &stats[n * width..(n + 1) * width];
                gradient(cores.isa, norm, x, stats, dy, self.gain, plus, dx, sums, has_shift);
                if let (Some(mask), Some(dh)) = (mask, &mut dh) {
                    mask.rows(cores.isa, n, d, dx, &mut dh[i * d..(i + 1) * d]);
                }
            }
        });
        let parts = scratch.len().checked_div(tables * d).unwrap_or(0);
        let after_gain = if dgain.is_some() { d } else { 0 };
        if let Some(dgain) = dgain {
            sum_rows(cores, scratch, tables * d, parts, dgain);
        }
        if let Some(dshift) = dshift {
            sum_rows(cores, &scratch[after_gain..], tables * d, parts, dshift);
        }
    }
}

multiversion! {
    /// dx = rstd (g - mean(g) - h mean(g h)) + plus with g = dy gain, h = (x - mean) rstd; sums += (dy h, dy).
    fn gradient<X: Real>(
        norm: Norm,
        x: &[X],
        stats: &[f32],
        dy: &[X],
        gain: Option<&[f32]>,
        plus: Option<&[X]>,
        dx: &mut [X],
        column_sums: &mut [f32],
        has_shift: bool,
    ) {
        let d = x.len();
        let (mean, rstd) = match norm {
            Norm::Layer => (stats[0], stats[1]),
            Norm::Rms => (0.0, stats[0]),
        };
        let h = |x: f32| (x - mean) * rstd;
        let [average, projection] = match gain {
            Some(gain) => sums(x, dy, gain, |x, dy, g| [dy * g, dy * g * h(x)]),
            None => sums(x, dy, dy, |x, dy, _| [dy, dy * h(x)]),
        };
        let average = match norm {
            Norm::Layer => average / d as f32,
            Norm::Rms => 0.0,
        };
        let projection = projection / d as f32;
        let slope = |x: f32, g: f32| rstd * (g - average - h(x) * projection);
        match (gain, plus) {
            (Some(gain), Some(plus)) => {
                for ((((dx, x), dy), g), plus) in dx.iter_mut().zip(x).zip(dy).zip(gain).zip(plus) {
                    *dx = X::store(slope(x.load(), dy.load() * g) + plus.load());
                }
            }
            (Some(gain), None) => map(dx, x, dy, gain, |x, dy, g| slope(x, dy * g)),
            (None, Some(plus)) => map(dx, x, dy, plus, |x, dy, plus| slope(x, dy) + plus),
            (None, None) => map(dx, x, dy, dy, |x, dy, _| slope(x, dy)),
        }
        let (gain_sums, shift_sums) = column_sums.split_at_mut(if gain.is_some() { d } else { 0 });
        if gain.is_some() && has_shift {
            for (((gain, shift), x), dy) in gain_sums.iter_mut().zip(shift_sums).zip(x).zip(dy) {
                *gain += dy.load() * h(x.load());
                *shift += dy.load();
            }
        } else {
            // One of the two is empty, or both.
            gain_sums.iter_mut().zip(x).zip(dy).for_each(|((sum, x), dy)| *sum += dy.load() * h(x.load()));
            shift_sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy.load());
        }
    }
}
