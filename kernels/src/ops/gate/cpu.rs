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

/// y = x + gate h.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(cores: &Cores, gate: Chunk, len: usize, d: usize, x: &[X], h: &[X], m: &[X], y: &mut [X]) {
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| {
        for (n, y) in (first..).zip(y.chunks_exact_mut(d)) {
            let of = n * d..(n + 1) * d;
            row(cores.isa, &x[of.clone()], &h[of], chunk(m, n / len, d, gate), y);
        }
    });
}

/// dh = dy gate, dgate = sum of dy h over positions; the other chunks of dm are zero.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    gate: Chunk,
    len: usize,
    d: usize,
    h: &[X],
    m: &[X],
    dy: &[X],
    dh: &mut [X],
    dm: &mut [X],
) {
    let chunks = gate.of as usize;
    // A task owns some columns of a batch element: its dm is summed over positions in order.
    cores.pool.tiles(d, SPAN, dh, len, dm, chunks, |b, columns, mut dh, mut dm| {
        (0..chunks).for_each(|chunk| dm.row(chunk).fill(X::store(0.0)));
        let (first, gates) = (b * len * d + columns.start, &chunk(m, b, d, gate)[columns]);
        let dgate = gradient(cores.isa, d, &h[first..], &dy[first..], gates, &mut dh);
        store::<SPAN, false, X>(&dgate, dm.row(gate.index as usize));
    });
}

multiversion! {
    fn row<X: Real>(x: &[X], h: &[X], gate: &[X], y: &mut [X]) {
        map(y, x, h, gate, |x, h, gate| x + gate * h);
    }
}

multiversion! {
    /// Writes dh; the sum of dy h.
    fn gradient<X: Real>(d: usize, h: &[X], dy: &[X], gate: &[X], dh: &mut Tile<'_, X>) -> [f32; SPAN] {
        if gate.len() == SPAN { columns::<true, X>(d, h, dy, gate, dh) } else { columns::<false, X>(d, h, dy, gate, dh) }
    }
}

#[inline(always)]
fn columns<const WHOLE: bool, X: Real>(d: usize, h: &[X], dy: &[X], gate: &[X], dh: &mut Tile<'_, X>) -> [f32; SPAN] {
    let (width, gate) = (gate.len(), lanes::<SPAN, WHOLE, X>(gate));
    let mut dgate = [0.0; SPAN];
    for n in 0..dh.height() {
        let h = lanes::<SPAN, WHOLE, X>(&h[n * d..][..width]);
        let mut dy = lanes::<SPAN, WHOLE, X>(&dy[n * d..][..width]);
        for j in 0..SPAN {
            dgate[j] += dy[j] * h[j];
            dy[j] *= gate[j];
        }
        store::<SPAN, WHOLE, X>(&dy, dh.row(n));
    }
    dgate
}

fn chunk<X>(m: &[X], b: usize, d: usize, chunk: Chunk) -> &[X] {
    &m[(b * chunk.of as usize + chunk.index as usize) * d..][..d]
}
