use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::map;
use crate::op::Chunk;
use crate::pool::Tile;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;
/// Columns of one task of the backward pass.
const SPAN: usize = 128;

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
        let (mut dshift, mut dscale) = ([0.0; SPAN], [0.0; SPAN]);
        let (dshift, dscale) = (&mut dshift[..columns.len()], &mut dscale[..columns.len()]);
        let (first, scales) = (b * len * d + columns.start, &chunk(m, b, d, scale)[columns]);
        gradient(cores.isa, d, &x[first..], &dy[first..], scales, &mut dx, dshift, dscale);
        dm.row(shift.index as usize).iter_mut().zip(dshift).for_each(|(dm, sum)| *dm = X::store(*sum));
        dm.row(scale.index as usize).iter_mut().zip(dscale).for_each(|(dm, sum)| *dm = X::store(*sum));
    });
}

multiversion! {
    fn row<X: Real>(x: &[X], shift: &[X], scale: &[X], y: &mut [X]) {
        map(y, x, shift, scale, |x, shift, scale| x * (1.0 + scale) + shift);
    }
}

multiversion! {
    fn gradient<X: Real>(
        d: usize,
        x: &[X],
        dy: &[X],
        scale: &[X],
        dx: &mut Tile<'_, X>,
        dshift: &mut [f32],
        dscale: &mut [f32],
    ) {
        let width = scale.len();
        for n in 0..dx.height() {
            let (x, dy) = (&x[n * d..][..width], &dy[n * d..][..width]);
            map(dx.row(n), dy, scale, scale, |dy, scale, _| dy * (1.0 + scale));
            for (((dshift, dscale), x), dy) in dshift.iter_mut().zip(dscale.iter_mut()).zip(x).zip(dy) {
                *dshift += dy.load();
                *dscale += dy.load() * x.load();
            }
        }
    }
}

fn chunk<X>(m: &[X], b: usize, d: usize, chunk: Chunk) -> &[X] {
    &m[(b * chunk.of as usize + chunk.index as usize) * d..][..d]
}
