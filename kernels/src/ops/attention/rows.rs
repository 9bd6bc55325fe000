//! Rows of heads on their way into padded f32 buffers and out of them.

use super::micro::LANES;
use crate::isa::{Isa, multiversion};
use crate::pool::Pieces;
use crate::real::Real;
use std::array::from_fn;

/// The rows of one key/value head: keys, values, or the queries of all heads that share them, position by position.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, X> {
    /// From the first element of the first row on.
    pub(super) data: &'a [X],
    /// Elements from one position to the next.
    pub(super) stride: usize,
    /// Heads that share a key: row `r` is head `r % group` of position `r / group`.
    pub(super) group: usize,
    /// The width of a head.
    pub(super) width: usize,
}

impl<'a, X> Rows<'a, X> {
    #[inline(always)]
    pub(super) fn row(&self, r: usize) -> &'a [X] {
        &self.data[offset(r, self.group, self.stride, self.width)..][..self.width]
    }
}

/// Rows that a product brings into the second cache while it computes, some before each of its register tiles.
pub(super) struct Ahead<'a, X, const N: usize> {
    /// What is left: rows `from .. to`, in turn.
    pub(super) spans: [(Rows<'a, X>, usize, usize); N],
    /// Rows at a time.
    pace: usize,
}

impl<'a, X, const N: usize> Ahead<'a, X, N> {
    /// All of `spans` by the time that `tiles` register tiles are done.
    pub(super) fn new(spans: [(Rows<'a, X>, usize, usize); N], tiles: usize) -> Self {
        let rows: usize = spans.iter().map(|(_, from, to)| to - from).sum();
        Self { spans, pace: rows.div_ceil(tiles) }
    }

    pub(super) fn step(&mut self) {
        if self.pace == 0 {
            return;
        }
        let mut left = self.pace;
        for (rows, from, to) in &mut self.spans {
            let end = (*from + left).min(*to);
            left -= end - *from;
            (*from..end).for_each(|r| fetch(rows.row(r)));
            *from = end;
        }
    }
}

/// Asks for the cache lines of `x`.
#[inline(always)]
fn fetch<X>(x: &[X]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in x.chunks((64 / size_of::<X>()).max(1)).map(|line| line.as_ptr()).chain(x.last().map(std::ptr::from_ref))
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, to the address of an element; it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = x;
}

/// Where row `r` begins.
#[inline(always)]
pub(super) fn offset(r: usize, group: usize, stride: usize, width: usize) -> usize {
    // A division for every row is dear where there is nothing to divide.
    if group == 1 { r * stride } else { r / group * stride + r % group * width }
}

/// A block of LANES x LANES, aligned like the vectors it is made of.
#[repr(align(64))]
struct Block([[f32; LANES]; LANES]);

multiversion! {
    /// out [count, width] = `scale` times rows `first .. first + count`.
    pub(super) fn load<X: Real>(
        x: Rows<'_, X>,
        first: usize,
        count: usize,
        scale: f32,
        out: &mut [f32],
        stride: usize,
    ) {
        // Common widths in whole vectors, without a loop over them.
        match (x.width % LANES, x.width / LANES) {
            (0, 2) => load_vectors::<X, 2>(x, first, count, scale, out, stride),
            (0, 4) => load_vectors::<X, 4>(x, first, count, scale, out, stride),
            (0, 6) => load_vectors::<X, 6>(x, first, count, scale, out, stride),
            (0, 8) => load_vectors::<X, 8>(x, first, count, scale, out, stride),
            _ => {
                for (r, out) in out.chunks_mut(stride).enumerate().take(count) {
                    for (to, x) in out.iter_mut().zip(x.row(first + r)) {
                        *to = x.load() * scale;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn load_vectors<X: Real, const V: usize>(
    x: Rows<'_, X>,
    first: usize,
    count: usize,
    scale: f32,
    out: &mut [f32],
    stride: usize,
) {
    for (r, out) in out.chunks_mut(stride).enumerate().take(count) {
        let from: &[[X; LANES]; V] = x.row(first + r).as_chunks().0.first_chunk().expect("V vectors a row");
        let to: &mut [[f32; LANES]; V] = out.as_chunks_mut().0.first_chunk_mut().expect("V vectors a row");
        for v in 0..V {
            // By way of values: through the two references the vector would be taken apart, since they might overlap.
            let (x, mut y) = (from[v], [0.0; LANES]);
            for l in 0..LANES {
                y[l] = x[l].load() * scale;
            }
            to[v] = y;
        }
    }
}

/// Rows of an output that one task writes, laid out like [`Rows`].
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Where the first row begins.
    pub(super) start: usize,
    /// Elements from one position to the next.
    pub(super) stride: usize,
    /// Heads that share a key.
    pub(super) group: usize,
    /// Elements from one of them to the next.
    pub(super) step: usize,
    /// Elements of a row.
    pub(super) width: usize,
}

/// The rows of a [`Place`], one at a time.
pub(super) struct Out<'a, T> {
    pieces: &'a Pieces<'a, T>,
    place: Place,
}

impl<'a, T> Out<'a, T> {
    /// # Safety
    /// While this is alive nothing else takes a piece that overlaps a row of the place that this task writes.
    pub(super) unsafe fn new(pieces: &'a Pieces<'a, T>, place: Place) -> Self {
        Self { pieces, place }
    }

    #[inline(always)]
    pub(super) fn row(&mut self, r: usize) -> &mut [T] {
        let Place { start, stride, group, step, width } = self.place;
        let at = start + offset(r, group, stride, step);
        // SAFETY: the rows are this value's own (whoever called `new`), and `&mut self` lends one at a time.
        unsafe { self.pieces.piece(at, at + width) }
    }
}

multiversion! {
    /// Rows `first .. first + count` of out = `scale` times those of x, each times its own of `scales` where given.
    pub(super) fn store<X: Real>(
        x: &[f32],
        stride: usize,
        count: usize,
        scale: f32,
        scales: Option<&[f32]>,
        out: &mut Out<'_, X>,
        first: usize,
    ) {
        for (r, x) in x.chunks(stride).enumerate().take(count) {
            let scale = scales.map_or(scale, |scales| scale * scales[r]);
            for (to, x) in out.row(first + r).iter_mut().zip(x) {
                *to = X::store(x * scale);
            }
        }
    }
}

multiversion! {
    /// out [cols, rows] = the transpose of x, in whole blocks of LANES x LANES. `level` is the `isa` again.
    pub(super) fn turn(
        level: Isa,
        rows: usize,
        cols: usize,
        x: &[f32],
        x_stride: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        for r in (0..rows).step_by(LANES) {
            for c in (0..cols).step_by(LANES) {
                let mut block = Block([[0.0; LANES]; LANES]);
                for (i, row) in block.0.iter_mut().enumerate() {
                    row.copy_from_slice(&x[(r + i) * x_stride + c..][..LANES]);
                }
                for (i, turned) in transpose(level, &block).0.iter().enumerate() {
                    out[(c + i) * out_stride + r..][..LANES].copy_from_slice(turned);
                }
            }
        }
    }
}

multiversion! {
    /// dots[r] = x_r . y_r of rows `first .. first + count` of y and the rows of x. `level` is the `isa` again.
    pub(super) fn dots<X: Real>(
        level: Isa,
        x: &[f32],
        stride: usize,
        y: Rows<'_, X>,
        first: usize,
        count: usize,
        dots: &mut [f32],
    ) {
        for (at, dots) in (0..count).step_by(LANES).zip(dots.chunks_mut(LANES)) {
            // Sums of a row in LANES parts, turned so that adding vectors adds the parts.
            let mut parts = Block([[0.0; LANES]; LANES]);
            for (r, parts) in parts.0.iter_mut().enumerate().take(count - at) {
                let y = y.row(first + at + r);
                let (x, (y, y_tail)) = (&x[(at + r) * stride..], y.as_chunks::<LANES>());
                let (mut sums, (x, _)) = ([0.0; LANES], x.as_chunks::<LANES>());
                for (x, y) in x.iter().zip(y) {
                    sums = from_fn(|l| sums[l] + x[l] * y[l].load());
                }
                if let Some(x) = x.get(y.len()) {
                    sums.iter_mut().zip(x).zip(y_tail).for_each(|((sum, x), y)| *sum += x * y.load());
                }
                *parts = sums;
            }
            let sums = transpose(level, &parts).0.into_iter().reduce(|a, b| from_fn(|l| a[l] + b[l]));
            dots.copy_from_slice(&sums.expect("LANES parts")[..dots.len()]);
        }
    }
}

#[inline(always)]
fn transpose(isa: Isa, block: &Block) -> Block {
    match isa {
        // SAFETY: a level of AVX-512 exists only where `Isa::best` found it.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => unsafe { transpose_avx512(block) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => transpose_portable(block),
        Isa::Portable | Isa::Avx2 => transpose_portable(block),
    }
}

#[inline(always)]
fn transpose_portable(block: &Block) -> Block {
    Block(from_fn(|r| from_fn(|c| block.0[c][r])))
}

/// Pairs of lanes, pairs of those, then quarters of a vector twice.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline]
fn transpose_avx512(block: &Block) -> Block {
    use std::arch::x86_64::*;
    let mut out = Block([[0.0; LANES]; LANES]);
    // SAFETY: a row of a block is LANES = 16 elements at a vector's boundary.
    let rows: [__m512; LANES] = unsafe { from_fn(|i| _mm512_load_ps(block.0[i].as_ptr())) };
    // quads[4 g + c]: of rows 4 g .. 4 g + 4, columns c, c + 4, c + 8 and c + 12, each in a quarter.
    let mut quads = [_mm512_setzero_ps(); LANES];
    for g in (0..LANES).step_by(4) {
        let low = [_mm512_unpacklo_ps(rows[g], rows[g + 1]), _mm512_unpacklo_ps(rows[g + 2], rows[g + 3])];
        let high = [_mm512_unpackhi_ps(rows[g], rows[g + 1]), _mm512_unpackhi_ps(rows[g + 2], rows[g + 3])];
        let ([a, b], [c, d]) = (low.map(|x| _mm512_castps_pd(x)), high.map(|x| _mm512_castps_pd(x)));
        quads[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        quads[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        quads[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
        quads[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
    for c in 0..4 {
        let (a, b, x, y) = (quads[c], quads[4 + c], quads[8 + c], quads[12 + c]);
        let (even_low, odd_low) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (even_high, odd_high) = (_mm512_shuffle_f32x4::<0x88>(x, y), _mm512_shuffle_f32x4::<0xdd>(x, y));
        let turned = [
            _mm512_shuffle_f32x4::<0x88>(even_low, even_high),
            _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high),
            _mm512_shuffle_f32x4::<0xdd>(even_low, even_high),
            _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high),
        ];
        for (i, turned) in turned.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_store_ps(out.0[4 * i + c].as_mut_ptr(), turned) };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_turns_at_every_level() {
        for isa in Isa::available() {
            let turned = transpose(isa, &Block(from_fn(|r| from_fn(|c| (LANES * r + c) as f32))));
            for r in 0..LANES {
                for c in 0..LANES {
                    assert_eq!(turned.0[r][c], (LANES * c + r) as f32, "{isa:?}");
                }
            }
        }
    }
}
