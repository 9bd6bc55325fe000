use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::norm::{ColumnSums, Gradient, grain, normalise};
use crate::op::Norm;
use crate::real::Real;

/// y [.., d] = x rstd gain per row, stats [n] = rstd = 1 / sqrt(mean(x^2) + eps).
pub fn forward<X: Real>(
    cores: &Cores,
    eps: f32,
    d: usize,
    x: &[X],
    gain: Option<&[f32]>,
    y: &mut [X],
    stats: &mut [f32],
) {
    cores.pool.rows2(y, d, stats, 1, grain(d), |first, y, stats| {
        rows(cores.isa, eps, d, &x[first * d..], gain, y, stats);
    });
}

multiversion! {
    fn rows<X: Real>(eps: f32, d: usize, x: &[X], gain: Option<&[f32]>, y: &mut [X], stats: &mut [f32]) {
        for ((x, y), stats) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(1)) {
            normalise(Norm::Rms, eps, x, gain, None, y, stats);
        }
    }
}

/// dx = rstd (g - h mean(g h)) with g = dy gain, h = x rstd; dgain = sum of dy h, for which `scratch` holds the sums of
/// every task.
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
    scratch: Option<&mut [f32]>,
) {
    let gradient = Gradient { norm: Norm::Rms, d, x, stats, dy, gain, plus: None };
    gradient.run(cores, dx, None, ColumnSums { dgain, dshift: None, scratch });
}
