use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::norm::{ColumnSums, Gradient, grain, normalise};
use crate::op::Norm;
use crate::real::Real;

/// y [.., d] = (x - mean) rstd gain + shift per row; stats [n, 2] = (mean, rstd).
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(
    cores: &Cores,
    eps: f32,
    d: usize,
    x: &[X],
    gain: Option<&[f32]>,
    shift: Option<&[f32]>,
    y: &mut [X],
    stats: &mut [f32],
) {
    cores.pool.rows2(y, d, stats, 2, grain(d), |first, y, stats| {
        rows(cores.isa, eps, d, &x[first * d..], gain, shift, y, stats);
    });
}

multiversion! {
    fn rows<X: Real>(
        eps: f32,
        d: usize,
        x: &[X],
        gain: Option<&[f32]>,
        shift: Option<&[f32]>,
        y: &mut [X],
        stats: &mut [f32],
    ) {
        for ((x, y), stats) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(2)) {
            normalise(Norm::Layer, eps, x, gain, shift, y, stats);
        }
    }
}

/// dx = rstd (g - mean(g) - h mean(g h)) with g = dy gain; dgain = sum of dy h, dshift = sum of dy. With either of them,
/// `scratch` holds the sums of every task.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    d: usize,
    x: &[X],
    stats: &[f32],
    dy: &[X],
    gain: Option<&[f32]>,
    dx: &mut [X],
    dgain: Option<&mut [f32]>,
    dshift: Option<&mut [f32]>,
    scratch: Option<&mut [f32]>,
) {
    let gradient = Gradient { norm: Norm::Layer, d, x, stats, dy, gain, plus: None };
    gradient.run(cores, dx, None, ColumnSums { dgain, dshift, scratch });
}
