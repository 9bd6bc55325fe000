use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::map;
use crate::norm::{ColumnSums, Gradient, grain, normalise};
use crate::op::{Dropout, Norm};
use crate::ops::dropout::Mask;
use crate::pool::ByRow;
use crate::real::Real;

/// The mask of `dropout` under the op's `rng`.
fn mask(dropout: Option<(Dropout, &[u32])>) -> Option<Mask> {
    dropout.map(|(Dropout { p, stream }, rng)| Mask::new(p, stream, rng))
}

/// s = x + dropout(h), y = norm(s) gain + shift, with the statistics of the norm's own op.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(
    cores: &Cores,
    norm: Norm,
    eps: f32,
    dropout: Option<(Dropout, &[u32])>,
    d: usize,
    x: &[X],
    h: &[X],
    gain: Option<&[f32]>,
    shift: Option<&[f32]>,
    y: &mut [X],
    s: &mut [X],
    stats: &mut [f32],
) {
    let (mask, rows) = (mask(dropout), x.len() / d);
    let outputs = (ByRow::new(y, d), ByRow::new(s, d), ByRow::new(stats, norm.stats()));
    cores.pool.cut(rows, grain(d), outputs, |first, (y, s, stats)| {
        let of = first * d..first * d + s.len();
        add_norm(cores.isa, norm, eps, mask, first, d, &x[of.clone()], &h[of], gain, shift, y, s, stats);
    });
}

multiversion! {
    fn add_norm<X: Real>(
        norm: Norm,
        eps: f32,
        mask: Option<Mask>,
        first: usize,
        d: usize,
        x: &[X],
        h: &[X],
        gain: Option<&[f32]>,
        shift: Option<&[f32]>,
        y: &mut [X],
        s: &mut [X],
        stats: &mut [f32],
    ) {
        let inputs = x.chunks_exact(d).zip(h.chunks_exact(d));
        let outputs = y.chunks_exact_mut(d).zip(s.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(norm.stats()));
        for (row, ((x, h), ((y, s), stats))) in (first..).zip(inputs.zip(outputs)) {
            match mask {
                Some(mask) => mask.map(row, h, x, s, |h, x| x + h),
                None => map(s, x, h, h, |x, h, _| x + h),
            }
            normalise(norm, eps, s, gain, shift, y, stats);
        }
    }
}

/// dx = ds + the gradient of the norm at s; dh = dropout(dx) where one was applied, dgain and dshift where asked.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    norm: Norm,
    dropout: Option<(Dropout, &[u32])>,
    d: usize,
    s: &[X],
    stats: &[f32],
    dy: &[X],
    ds: Option<&[X]>,
    gain: Option<&[f32]>,
    dx: &mut [X],
    dh: Option<&mut [X]>,
    dgain: Option<&mut [f32]>,
    dshift: Option<&mut [f32]>,
    scratch: Option<&mut [f32]>,
) {
    let gradient = Gradient { norm, d, x: s, stats, dy, gain, plus: ds };
    gradient.run(cores, dx, mask(dropout).zip(dh), ColumnSums { dgain, dshift, scratch });
}
