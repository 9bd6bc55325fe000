use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{lanes, map, store};
use crate::op::Chunk;
use crate::pool::Tile;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;
/// Columns of one task of the backward pass, whose sums stay in registers.
const SPAN: usize = 64;

/// y = x (1 + scale) + shift.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(
    cores: &Cores,
    shift: Chunk,
    scale: Chunk,
    len: usize,
    d: usize,
    x: &[X],
    m: &[X],
    y: &mut [X],
) {
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| {
        for (n, y) in (first..).zip(y.chunks_exact_mut(d)) {
            let b = n / len;
            row(cores.isa, &x[n * d..(n + 1) * d], chunk(m, b, d, shift), chunk(m, b, d, scale), y);
        }
    });
}

/// dx = dy (1 + scale), dshift = sum of dy, dscale = sum of dy x over positions; the other chunks of dm are zero.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    shift: Chunk,
    scale: Chunk,
    len: usize,
    d: usize,
    x: &[X],
    m: &[X],
    dy: &[X],
    dx: &mut [X],
    dm: &mut [X],
) {
    let chunks = shift.of as usize;
    // A task owns some columns of a batch element: its dm is summed over positions in order.
    cores.pool.tiles(d, SPAN, dx, len, dm, chunks, |b, columns, mut dx, mut dm| {
        (0..chunks).for_each(|chunk| dm.row(chunk).fill(X::store(0.0)));
        let (first, scales) = (b * len * d + columns.start, &chunk(m, b, d, scale)[columns]);
        let (dshift, dscale) = gradient(cores.isa, d, &x[first..], &dy[first..], scales, &mut dx);
        store::<SPAN, false, X>(&dshift, dm.row(shift.index as usize));
        store::<SPAN, false, X>(&dscale, dm.row(scale.index as usize));
    });
}

multiversion! {
    fn row<X: Real>(x: &[X], shift: &[X], scale: &[X], y: &mut [X]) {
        map(y, x, shift, scale, |x, shift, scale| x * (1.0 + scale) + shift);
    }
}

multiversion! {
    /// Writes dx; the sums of dy and of dy x.
    fn gradient<X: Real>(
        d: usize,
        x: &[X],
        dy: &[X],
        scale: &[X],
        dx: &mut Tile<'_, X>,
    ) -> ([f32; SPAN], [f32; SPAN]) {
        if scale.len() == SPAN { columns::<true, X>(d, x, dy, scale, dx) } else { columns::<false, X>(d, x, dy, scale, dx) }
    }
}

#[inline(always)]
fn columns<const WHOLE: bool, X: Real>(
    d: usize,
    x: &[X],
    dy: &[X],
    scale: &[X],
    dx: &mut Tile<'_, X>,
) -> ([f32; SPAN], [f32; SPAN]) {
    let (width, scale) = (scale.len(), lanes::<SPAN, WHOLE, X>(scale));
    let (mut dshift, mut dscale) = ([0.0; SPAN], [0.0; SPAN]);
    for n in 0..dx.height() {
        let x = lanes::<SPAN, WHOLE, X>(&x[n * d..][..width]);
        let mut dy = lanes::<SPAN, WHOLE, X>(&dy[n * d..][..width]);
        for j in 0..SPAN {
            dshift[j] += dy[j];
            dscale[j] += dy[j] * x[j];
            dy[j] *= 1.0 + scale[j];
        }
        store::<SPAN, WHOLE, X>(&dy, dx.row(n));
    }
    (dshift, dscale)
}

fn chunk<X>(m: &[X], b: usize, d: usize, chunk: Chunk) -> &[X] {
    &m[(b * chunk.of as usize + chunk.index as usize) * d..][..d]
}
