//! Packing: a factor's elements as words in the order in which a micro-kernel reads them.
//!
//! A *word* is 32 bits: one f32, or two bf16 or four int8 that are neighbours along k. Both sides of a product are packed
//! from blocks of 16 x 16 words, loaded as they lie in memory, transposed in registers where the micro-kernel wants the other order.

use super::ahead::prefetch;
use super::words::{Bytes, Halves, Pairs, Singles, Source, Widened};
use super::{Elements, Factor, Layout};
use crate::isa::{Isa, multiversion};

/// Extent of a block in either direction: the lanes of a 512-bit vector.
pub(super) const LANES: usize = 16;

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// One f32.
    Single,
    /// One f32 that is a bf16: for machines that multiply no bf16.
    Rounded,
    /// Two bf16, the one of lower k in the lower half.
    Pair,
    /// Four int8, the one of lowest k in the lowest byte.
    Quad,
    /// Four int8 plus [`LIFT`], which makes them unsigned: instructions multiply signed bytes by unsigned ones.
    Lifted,
}

/// What [`Word::Lifted`] adds to every element.
pub(super) const LIFT: i32 = 128;

impl Word {
    /// Elements along k in a word.
    pub(super) const fn depth(self) -> usize {
        match self {
            Word::Single | Word::Rounded => 1,
            Word::Pair => 2,
            Word::Quad | Word::Lifted => 4,
        }
    }
}

/// A rectangle of a factor: `span` outside the sum (rows of A, columns of B), `ks` inside it.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) factor: Factor<'a>,
    /// Whether neighbours along k are neighbours in memory.
    pub(super) along_k: bool,
    pub(super) span: (usize, usize),
    pub(super) ks: (usize, usize),
}

impl<'a> Part<'a> {
    /// A part of A: rows `span`.
    pub(super) fn of_a(factor: Factor<'a>, span: (usize, usize), ks: (usize, usize)) -> Self {
        Self { factor, along_k: factor.layout == Layout::Normal, span, ks }
    }

    /// A part of B: columns `span`.
    pub(super) fn of_b(factor: Factor<'a>, span: (usize, usize), ks: (usize, usize)) -> Self {
        Self { factor, along_k: factor.layout == Layout::Transposed, span, ks }
    }

    /// Words along k.
    pub(super) fn depth(&self, word: Word) -> usize {
        (self.ks.1 - self.ks.0).div_ceil(word.depth())
    }
}

/// How blocks of 16 x 16 words lie in a packed buffer.
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// Rows of one k: `[k][width]`, panels of `width` (8, 16, 32 or 48) one after another, the last as wide as is left of
    /// the span in steps of `step`.
    DepthMajor { width: usize, step: usize },
    /// Tiles whose rows are one k and whose columns are 16 of the span: `[panel of 32][k / 16][2][16 k][16]`.
    DepthTiles,
    /// Tiles whose rows are one of the span and whose columns are 16 of k: `[panel of 32][k / 16][2][16][16 k]`.
    SpanTiles,
}

/// Packs `part` into `out`; what lies beyond it in a block is zero.
pub(super) fn pack(isa: Isa, word: Word, order: Order, part: &Part<'_>, out: &mut [u32]) {
    match (part.factor.data, word) {
        (Elements::F32(x), Word::Single) => blocks(isa, Singles { x, round: false }, word, order, part, out),
        (Elements::F32(x), Word::Rounded) => blocks(isa, Singles { x, round: true }, word, order, part, out),
        (Elements::F32(x), Word::Pair) => blocks(isa, Pairs { x }, word, order, part, out),
        (Elements::Bf16(x), Word::Single | Word::Rounded) => blocks(isa, Widened { x }, word, order, part, out),
        (Elements::Bf16(x), Word::Pair) => blocks(isa, Halves { x }, word, order, part, out),
        (Elements::I8(x), Word::Quad) => blocks(isa, Bytes { x, flip: 0 }, word, order, part, out),
        // 128 more is the sign bit turned over.
        (Elements::I8(x), Word::Lifted) => blocks(isa, Bytes { x, flip: 0x8080_8080 }, word, order, part, out),
        (Elements::F32(_) | Elements::Bf16(_), Word::Quad | Word::Lifted)
        | (Elements::I8(_), Word::Single | Word::Rounded | Word::Pair) => {
            unreachable!("int8 is multiplied by int8 alone (`run_into`)")
        }
    }
}

fn blocks<S: Source>(isa: Isa, source: S, word: Word, order: Order, part: &Part<'_>, out: &mut [u32]) {
    let by_depth = !matches!(order, Order::SpanTiles);
    match (part.along_k == by_depth, isa) {
        // SAFETY: these levels exist only where `Isa::best` found AVX-512F.
        #[cfg(target_arch = "x86_64")]
        (true, Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx) => unsafe { turned_512(source, word, order, part, out) },
        (true, _) => turned(isa, source, word, order, part, out),
        (false, _) => copied(isa, source, word, order, part, out),
    }
    if !matches!(order, Order::DepthMajor { .. }) {
        clear_second_half(word, part, out);
    }
}

/// Where the rows of a block go: the first at `at`, `stride` apart, `count` of them, each in pieces of `piece` words that are
/// `apart` words from each other.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    stride: usize,
    count: usize,
    piece: usize,
    apart: usize,
}

impl Place {
    /// Of the block at (i, p), in words from the part's corner; panels and tiles lie as `Order` says.
    #[inline(always)]
    fn new(order: Order, span: usize, depth: usize, i: usize, p: usize) -> Self {
        match order {
            Order::DepthMajor { width, step } => {
                let panel = i / width * width;
                let wide = width.min((span - panel).next_multiple_of(step));
                let (piece, apart) = (width.min(LANES), width * depth);
                Place { at: panel * depth + p * wide + (i - panel), stride: wide, count: depth - p, piece, apart }
            }
            Order::DepthTiles | Order::SpanTiles => {
                let tile = (i / (2 * LANES) * depth.div_ceil(LANES) + p / LANES) * 2 + i / LANES % 2;
                Place { at: tile * LANES * LANES, stride: LANES, count: LANES, piece: LANES, apart: 0 }
            }
        }
    }

    /// Writes row `r`; a second piece lies in a panel that is there only if the span reaches it.
    #[inline(always)]
    fn put(&self, r: usize, row: &[u32; LANES], out: &mut [u32]) {
        let at = self.at + r * self.stride;
        if self.piece == LANES {
            if let Some(to) = out[at..].first_chunk_mut() {
                *to = *row;
            }
            return;
        }
        for (half, words) in row.as_chunks::<{ LANES / 2 }>().0.iter().enumerate() {
            if let Some(to) = out.get_mut(at + half * self.apart..).and_then(|to| to.first_chunk_mut()) {
                *to = *words;
            }
        }
    }
}

multiversion! {
    /// Blocks that are packed as they lie: row by row over four blocks, so that lines are read whole and in order.
    fn copied<S: Source>(source: S, word: Word, order: Order, part: &Part<'_>, out: &mut [u32]) {
        const WIDE: usize = 4 * LANES;
        let (depth, span) = (part.depth(word), part.span.1 - part.span.0);
        if part.along_k {
            for i in (0..span).step_by(LANES) {
                for p in (0..depth).step_by(LANES) {
                    let place = Place::new(order, span, depth, i, p);
                    for r in 0..LANES {
                        place.put(r, &row_along::<S, false>(source, word, part, i + r, p), out);
                    }
                }
            }
            return;
        }
        for first in (0..span).step_by(WIDE) {
            for p in (0..depth).step_by(LANES) {
                let blocks = (span - first).div_ceil(LANES).min(WIDE / LANES);
                let whole = first + blocks * LANES <= span;
                let places: [Place; WIDE / LANES] =
                    std::array::from_fn(|b| Place::new(order, span, depth, (first + b * LANES).min(span - 1), p));
                for r in 0..places[0].count.min(LANES) {
                    // The block after this one.
                    let next = (part.ks.0 + (p + r + LANES) * word.depth()) * part.factor.stride + part.span.0 + first;
                    for line in (0..WIDE).step_by(LANES) {
                        prefetch(source.address(next + line));
                        if word == Word::Pair {
                            prefetch(source.address(next + part.factor.stride + line));
                        }
                    }
                    if whole {
                        for (b, place) in places.iter().enumerate().take(blocks) {
                            let i = first + b * LANES;
                            place.put(r, &row_across::<S, true>(source, word, part, i, p + r), out);
                        }
                    } else {
                        for (place, i) in places.iter().zip((first..span).step_by(LANES)) {
                            place.put(r, &row_across::<S, false>(source, word, part, i, p + r), out);
                        }
                    }
                }
            }
        }
    }
}

multiversion! {
    /// Blocks that are transposed on the way.
    fn turned<S: Source>(source: S, word: Word, order: Order, part: &Part<'_>, out: &mut [u32]) {
        let (depth, span) = (part.depth(word), part.span.1 - part.span.0);
        for i in (0..span).step_by(LANES) {
            for p in (0..depth).step_by(LANES) {
                let place = Place::new(order, span, depth, i, p);
                let block: [[u32; LANES]; LANES] = std::array::from_fn(|r| natural_row::<S, false>(source, word, part, i, p, r));
                for r in 0..place.count.min(LANES) {
                    place.put(r, &block.map(|row| row[r]), out);
                }
            }
        }
    }
}

/// Row `r` of the block at (i, p), as it lies in memory; `WHOLE` says that the block reaches beyond neither edge.
#[inline(always)]
fn natural_row<S: Source, const WHOLE: bool>(
    source: S,
    word: Word,
    part: &Part<'_>,
    i: usize,
    p: usize,
    r: usize,
) -> [u32; LANES] {
    if part.along_k {
        row_along::<S, WHOLE>(source, word, part, i + r, p)
    } else {
        row_across::<S, WHOLE>(source, word, part, i, p + r)
    }
}

/// 16 words along k from word p on, of row i of the span; zero beyond either.
#[inline(always)]
fn row_along<S: Source, const WHOLE: bool>(source: S, word: Word, part: &Part<'_>, i: usize, p: usize) -> [u32; LANES] {
    let (first, k) = (part.span.0 + i, part.ks.0 + p * word.depth());
    if !WHOLE && (first >= part.span.1 || k >= part.ks.1) {
        return [0; LANES];
    }
    source.along::<WHOLE>(first * part.factor.stride + k, (part.ks.1 - k).min(LANES * word.depth()))
}

/// The words of 16 rows of the span from i on at word p of k; zero beyond either.
#[inline(always)]
fn row_across<S: Source, const WHOLE: bool>(
    source: S,
    word: Word,
    part: &Part<'_>,
    i: usize,
    p: usize,
) -> [u32; LANES] {
    let (first, k) = (part.span.0 + i, part.ks.0 + p * word.depth());
    if k >= part.ks.1 || (!WHOLE && first >= part.span.1) {
        return [0; LANES];
    }
    let (stride, lanes) = (part.factor.stride, (part.span.1 - first).min(LANES));
    source.across::<WHOLE>(k * stride + first, stride, lanes, part.ks.1 - k)
}

/// Zeros in the second tile of every step of a last panel that has only one.
fn clear_second_half(word: Word, part: &Part<'_>, out: &mut [u32]) {
    let (steps, span) = (part.depth(word).div_ceil(LANES), part.span.1 - part.span.0);
    if (1..=LANES).contains(&(span % (2 * LANES))) {
        for step in 0..steps {
            let tile = (span / (2 * LANES) * steps + step) * 2 + 1;
            out[tile * LANES * LANES..(tile + 1) * LANES * LANES].fill(0);
        }
    }
}

/// [`turned`] in registers: words, then pairs of words within quarters of a vector, then the quarters.
///
/// # Safety
/// The machine has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn turned_512<S: Source>(source: S, word: Word, order: Order, part: &Part<'_>, out: &mut [u32]) {
    use std::arch::x86_64::*;
    /// Blocks between the one that is asked for and the one that is transposed.
    const AHEAD: usize = 4;
    let (depth, span) = (part.depth(word), part.span.1 - part.span.0);
    for i in (0..span).step_by(LANES) {
        for p in (0..depth).step_by(LANES) {
            let place = Place::new(order, span, depth, i, p);
            let whole = i + LANES <= span && (p + LANES) * word.depth() <= part.ks.1 - part.ks.0;
            let mut x = [_mm512_setzero_si512(); LANES];
            for (r, x) in x.iter_mut().enumerate() {
                if part.along_k {
                    let next = part.ks.0 + (p + AHEAD * LANES) * word.depth();
                    prefetch(source.address((part.span.0 + i + r) * part.factor.stride + next));
                }
                let row = if whole {
                    natural_row::<S, true>(source, word, part, i, p, r)
                } else {
                    natural_row::<S, false>(source, word, part, i, p, r)
                };
                // SAFETY: a row is 16 words, a vector of 512 bits.
                *x = unsafe { std::mem::transmute::<[u32; LANES], __m512i>(row) };
            }
            let mut y = x;
            for i in (0..LANES).step_by(2) {
                y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
                y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
            }
            // Quarter q of z[4 g + c] is column 4 q + c of rows 4 g to 4 g + 3.
            let mut z = y;
            for i in (0..LANES).step_by(4) {
                z[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
                z[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
                z[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
                z[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
            }
            for c in 0..4 {
                let even_low = _mm512_shuffle_i32x4::<0x88>(z[c], z[4 + c]);
                let odd_low = _mm512_shuffle_i32x4::<0xdd>(z[c], z[4 + c]);
                let even_high = _mm512_shuffle_i32x4::<0x88>(z[8 + c], z[12 + c]);
                let odd_high = _mm512_shuffle_i32x4::<0xdd>(z[8 + c], z[12 + c]);
                let quarters = [
                    _mm512_shuffle_i32x4::<0x88>(even_low, even_high),
                    _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high),
                    _mm512_shuffle_i32x4::<0xdd>(even_low, even_high),
                    _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high),
                ];
                for (q, row) in quarters.into_iter().enumerate() {
                    if 4 * q + c < place.count {
                        // SAFETY: as above.
                        let row = unsafe { std::mem::transmute::<__m512i, [u32; LANES]>(row) };
                        place.put(4 * q + c, &row, out);
                    }
                }
            }
        }
    }
}
