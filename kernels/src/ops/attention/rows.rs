//! Rows of heads on their way into padded f32 buffers and out of them.

use super::micro::LANES;
use crate::isa::{Isa, multiversion};
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
    fn row(&self, r: usize) -> &'a [X] {
        &self.data[offset(r, self.group, self.stride, self.width)..][..self.width]
    }
}

/// Where row `r` begins.
#[inline(always)]
pub(super) fn offset(r: usize, group: usize, stride: usize, width: usize) -> usize {
    r / group * stride + r % group * width
}

/// A block of LANES x LANES, aligned like the vectors it is made of.
#[repr(align(64))]
struct Block([[f32; LANES]; LANES]);

multiversion! {
    /// out [count, width] = rows `first .. first + count`.
    pub(super) fn load<X: Real>(x: Rows<'_, X>, first: usize, count: usize, out: &mut [f32], stride: usize) {
        for (r, out) in out.chunks_mut(stride).enumerate().take(count) {
            for (to, x) in out.iter_mut().zip(x.row(first + r)) {
                *to = x.load();
            }
        }
    }
}

multiversion! {
    /// out [width, count] = the transpose of `scale` times rows `first .. first + count`; lanes up to the next multiple of
    /// LANES repeat the last row. `level` is the `isa` again.
    pub(super) fn turn<X: Real>(
        level: Isa,
        x: Rows<'_, X>,
        first: usize,
        count: usize,
        scale: f32,
        out: &mut [f32],
        stride: usize,
    ) {
        for lane in (0..count).step_by(LANES) {
            let rows: [&[X]; LANES] = from_fn(|r| x.row(first + (lane + r).min(count - 1)));
            for c in (0..x.width).step_by(LANES) {
                let columns = (x.width - c).min(LANES);
                let mut block = Block([[0.0; LANES]; LANES]);
                for (to, row) in block.0.iter_mut().zip(rows) {
                    if let Some(row) = row[c..].first_chunk::<LANES>() {
                        for (to, x) in to.iter_mut().zip(row) {
                            *to = x.load() * scale;
                        }
                    } else {
                        for (to, x) in to.iter_mut().zip(&row[c..]) {
                            *to = x.load() * scale;
                        }
                    }
                }
                transpose(level, &mut block);
                for (k, from) in block.0.iter().enumerate().take(columns) {
                    out[(c + k) * stride + lane..][..LANES].copy_from_slice(from);
                }
            }
        }
    }
}

multiversion! {
    /// out = scale x.
    pub(super) fn store<X: Real>(x: &[f32], scale: f32, out: &mut [X]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = X::store(x * scale);
        }
    }
}

#[inline(always)]
fn transpose(isa: Isa, block: &mut Block) {
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
fn transpose_portable(block: &mut Block) {
    for r in 0..LANES {
        for c in 0..r {
            let (a, b) = (block.0[r][c], block.0[c][r]);
            (block.0[r][c], block.0[c][r]) = (b, a);
        }
    }
}

/// Four rounds that exchange halves: of pairs of lanes, of pairs of those, and of quarters of a vector twice.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose_avx512(block: &mut Block) {
    use std::arch::x86_64::*;
    // SAFETY: a row of the block has LANES = 16 elements.
    let r: [__m512; LANES] = from_fn(|i| unsafe { _mm512_load_ps(block.0[i].as_ptr()) });
    let mut pairs = [_mm512_setzero_ps(); LANES];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    // quads[4 g + c]: of rows 4 g .. 4 g + 4, columns c, c + 4, c + 8 and c + 12, each in a quarter.
    let mut quads = [_mm512_setzero_ps(); LANES];
    for g in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| _mm512_castps_pd(pairs[4 * g + i]));
        quads[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        quads[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        quads[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        quads[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for c in 0..4 {
        let [a, b, x, y] = [0, 1, 2, 3].map(|g| quads[4 * g + c]);
        let (even_low, odd_low) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (even_high, odd_high) = (_mm512_shuffle_f32x4::<0x88>(x, y), _mm512_shuffle_f32x4::<0xdd>(x, y));
        let out = [
            _mm512_shuffle_f32x4::<0x88>(even_low, even_high),
            _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high),
            _mm512_shuffle_f32x4::<0xdd>(even_low, even_high),
            _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high),
        ];
        for (i, out) in out.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_store_ps(block.0[4 * i + c].as_mut_ptr(), out) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_turns_at_every_level() {
        for isa in Isa::available() {
            let mut block = Block(from_fn(|r| from_fn(|c| (LANES * r + c) as f32)));
            transpose(isa, &mut block);
            for r in 0..LANES {
                for c in 0..LANES {
                    assert_eq!(block.0[r][c], (LANES * c + r) as f32, "{isa:?}");
                }
            }
        }
    }
}
