//! The micro-kernels on vectors: a tile of C in registers, eight rows of A broadcast against up to three vectors of B.
//!
//! 8 x 48 with AVX-512: 24 accumulators hide a latency of four cycles on two units three times over, and eleven loads a step
//! of k stand beside 24 multiply-adds. AVX2's sixteen registers hold a quarter of it at a time.

use super::ahead::Ahead;
use super::pack::LANES;
use crate::isa::Isa;

/// Rows of the register tile.
pub(super) const ROWS: usize = 8;
/// Columns of the register tile: three vectors.
pub(super) const COLS: usize = 3 * LANES;

/// Eight rows of A: where each begins, and the words from one step of k to the next.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    pub(super) rows: [*const u32; ROWS],
    pub(super) step: usize,
}

/// Whether a word is an f32, a pair of bf16, or four int8 (A's signed, B's lifted), whose sums are i32 in the bits of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    Singles,
    Pairs,
    Quads,
}

/// Steps of k from one prefetch to the next.
const PACE: usize = 4;

/// acc [8 rows, `COLS` apart] = (or, if `add`, +=) the strip times a panel `[depth][16 vectors]`, asking
/// for lines of `ahead` on the way.
///
/// # Safety
/// Every row of the strip has `depth` words, `step` apart, and `panel` has `depth * 16 * vectors` of them.
#[expect(clippy::too_many_arguments, reason = "what a micro-kernel is told")]
pub(super) unsafe fn micro(
    isa: Isa,
    product: Product,
    depth: usize,
    strip: &Strip,
    panel: &[u32],
    vectors: usize,
    acc: &mut [f32; ROWS * COLS],
    add: bool,
    ahead: &mut Ahead,
) {
    debug_assert!(panel.len() >= depth * LANES * vectors);
    // SAFETY: passed on; the level exists only where `Isa::best` found its features.
    unsafe {
        match (isa, product) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16 | Isa::Amx, Product::Pairs) => match vectors {
                1 => pairs::<1>(depth, strip, panel, acc, add, ahead),
                2 => pairs::<2>(depth, strip, panel, acc, add, ahead),
                _ => pairs::<3>(depth, strip, panel, acc, add, ahead),
            },
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, Product::Singles) => match vectors {
                1 => singles::<1>(depth, strip, panel, acc, add, ahead),
                2 => singles::<2>(depth, strip, panel, acc, add, ahead),
                _ => singles::<3>(depth, strip, panel, acc, add, ahead),
            },
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, Product::Quads) if isa.multiplies_bytes() => match vectors {
                1 => quads::<1>(depth, strip, panel, acc, add, ahead),
                2 => quads::<2>(depth, strip, panel, acc, add, ahead),
                _ => quads::<3>(depth, strip, panel, acc, add, ahead),
            },
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, Product::Quads) => match vectors {
                1 => quads_256::<1>(depth, strip, panel, acc, add),
                2 => quads_256::<2>(depth, strip, panel, acc, add),
                _ => quads_256::<3>(depth, strip, panel, acc, add),
            },
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Product::Singles) => match vectors {
                1 => singles_256::<1>(depth, strip, panel, acc, add),
                2 => singles_256::<2>(depth, strip, panel, acc, add),
                _ => singles_256::<3>(depth, strip, panel, acc, add),
            },
            _ => portable(product, depth, strip, panel, vectors, acc, add),
        }
    }
}

/// # Safety
/// As [`micro`].
unsafe fn portable(
    product: Product,
    depth: usize,
    strip: &Strip,
    panel: &[u32],
    vectors: usize,
    acc: &mut [f32; ROWS * COLS],
    add: bool,
) {
    let cols = LANES * vectors;
    for (acc, &row) in acc.as_chunks_mut::<COLS>().0.iter_mut().zip(&strip.rows) {
        let mut sums = [0.0f32; COLS];
        for (p, words) in panel.chunks_exact(cols).enumerate().take(depth) {
            // SAFETY: the row has `depth` words (caller).
            let a = unsafe { row.add(p * strip.step).read_unaligned() };
            for (sum, &b) in sums.iter_mut().zip(words) {
                *sum = match product {
                    Product::Singles => *sum + f32::from_bits(a) * f32::from_bits(b),
                    Product::Pairs => {
                        let high = f32::from_bits(a & 0xffff_0000) * f32::from_bits(b & 0xffff_0000);
                        *sum + high + f32::from_bits(a << 16) * f32::from_bits(b << 16)
                    }
                    Product::Quads => join(*sum, f32::from_bits(quad(a, b) as u32)),
                };
            }
        }
        for (acc, sum) in acc.iter_mut().zip(sums).take(cols) {
            *acc = match (add, product) {
                (false, _) => sum,
                (true, Product::Singles | Product::Pairs) => *acc + sum,
                (true, Product::Quads) => join(*acc, sum),
            };
        }
    }
}

/// The sum of two i32 in the bits of f32.
fn join(a: f32, b: f32) -> f32 {
    f32::from_bits(a.to_bits().wrapping_add(b.to_bits()))
}

/// The sum of four products of signed bytes by unsigned ones.
fn quad(a: u32, b: u32) -> i32 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    (0..4).map(|c| i32::from(a[c] as i8) * i32::from(b[c])).sum()
}

/// The body of the AVX-512 kernels, which differ in what they do with a word of A and a vector of B, and in how two sums
/// are joined.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel_512 {
    ($name:ident, $feature:literal, $join:expr, |$sum:ident, $a:ident, $b:ident| $multiply_add:expr) => {
        /// # Safety
        /// As [`micro`].
        #[target_feature(enable = $feature)]
        unsafe fn $name<const V: usize>(
            depth: usize,
            strip: &Strip,
            panel: &[u32],
            acc: &mut [f32; ROWS * COLS],
            add: bool,
            ahead: &mut Ahead,
        ) {
            use std::arch::x86_64::*;
            let mut sums = [[_mm512_setzero_ps(); V]; ROWS];
            let (rows, step, mut b) = (strip.rows, strip.step, panel.as_ptr());
            let (mut at, mut left) = (0, depth);
            while left > 0 {
                ahead.next();
                let steps = left.min(PACE);
                left -= steps;
                for _ in 0..steps {
                    let mut vectors = [_mm512_setzero_ps(); V];
                    for (v, vector) in vectors.iter_mut().enumerate() {
                        // SAFETY: the panel has 16 V words for each of `depth` steps (caller).
                        *vector = unsafe { _mm512_loadu_ps(b.add(LANES * v).cast()) };
                    }
                    for (sums, row) in sums.iter_mut().zip(rows) {
                        // SAFETY: the row has `depth` words, `step` apart (caller); pairs need not be aligned.
                        let word = unsafe { row.add(at).read_unaligned() };
                        let a = _mm512_set1_epi32(word as i32);
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            let ($sum, $a, $b) = (*sum, a, vector);
                            *sum = $multiply_add;
                        }
                    }
                    at += step;
                    b = b.wrapping_add(LANES * V);
                }
            }
            for (row, sums) in acc.as_chunks_mut::<COLS>().0.iter_mut().zip(sums) {
                for (to, sum) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
                    // SAFETY: `to` is sixteen lanes.
                    unsafe {
                        let sum = if add { $join(_mm512_loadu_ps(to.as_ptr()), sum) } else { sum };
                        _mm512_storeu_ps(to.as_mut_ptr(), sum);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernel_512!(singles, "avx512f", _mm512_add_ps, |sum, a, b| _mm512_fmadd_ps(_mm512_castsi512_ps(a), b, sum));

// Both products of a pair are added in f32; subnormal inputs and outputs count as zero (the instruction's own rule).
#[cfg(target_arch = "x86_64")]
kernel_512!(pairs, "avx512f,avx512bf16", _mm512_add_ps, |sum, a, b| {
    // SAFETY: three names for 512 bits.
    unsafe {
        let a = std::mem::transmute::<__m512i, __m512bh>(a);
        _mm512_dpbf16_ps(sum, a, std::mem::transmute::<__m512, __m512bh>(b))
    }
});

/// The sum of two vectors of i32 in the bits of f32.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn join_512(a: std::arch::x86_64::__m512, b: std::arch::x86_64::__m512) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::*;
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)))
}

// Four products a lane, added in i32; the instruction takes the unsigned bytes first.
#[cfg(target_arch = "x86_64")]
kernel_512!(quads, "avx512f,avx512vnni", join_512, |sum, a, b| {
    _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), _mm512_castps_si512(b), a))
});

/// The body of the AVX2 kernels.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel_256 {
    ($name:ident, $join:expr, |$sum:ident, $a:ident, $b:ident| $multiply_add:expr) => {
        /// # Safety
        /// As [`micro`].
        #[target_feature(enable = "avx2,fma")]
        unsafe fn $name<const V: usize>(
            depth: usize,
            strip: &Strip,
            panel: &[u32],
            acc: &mut [f32; ROWS * COLS],
            add: bool,
        ) {
            use std::arch::x86_64::*;
            // Sixteen registers hold four rows of V vectors of eight: the tile is four such corners.
            for (half, columns) in [(0, 0), (0, 8 * V), (4, 0), (4, 8 * V)] {
                let mut sums = [[_mm256_setzero_ps(); V]; 4];
                for p in 0..depth {
                    let mut vectors = [_mm256_setzero_ps(); V];
                    for (v, vector) in vectors.iter_mut().enumerate() {
                        let at = p * LANES * V + columns + 8 * v;
                        // SAFETY: the panel has 16 V words for each of `depth` steps (caller).
                        *vector = unsafe { _mm256_loadu_ps(panel.as_ptr().add(at).cast()) };
                    }
                    for (sums, row) in sums.iter_mut().zip(&strip.rows[half..half + 4]) {
                        // SAFETY: the row has `depth` words, `step` apart (caller).
                        let a = _mm256_set1_epi32(unsafe { row.add(p * strip.step).read_unaligned() } as i32);
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            let ($sum, $a, $b) = (*sum, a, vector);
                            *sum = $multiply_add;
                        }
                    }
                }
                for (row, sums) in acc.as_chunks_mut::<COLS>().0[half..half + 4].iter_mut().zip(sums) {
                    let to = row[columns..columns + 8 * V].as_chunks_mut::<8>().0;
                    for (to, sum) in to.iter_mut().zip(sums) {
                        // SAFETY: `to` is eight lanes.
                        unsafe {
                            let sum = if add { $join(_mm256_loadu_ps(to.as_ptr()), sum) } else { sum };
                            _mm256_storeu_ps(to.as_mut_ptr(), sum);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernel_256!(singles_256, _mm256_add_ps, |sum, a, b| _mm256_fmadd_ps(_mm256_castsi256_ps(a), b, sum));

/// The sum of two vectors of i32 in the bits of f32.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn join_256(a: std::arch::x86_64::__m256, b: std::arch::x86_64::__m256) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)))
}

// The even and the odd bytes as pairs of i16: their products fit i32, where the instruction for bytes would saturate at i16.
#[cfg(target_arch = "x86_64")]
kernel_256!(quads_256, join_256, |sum, a, b| {
    let (b, low) = (_mm256_castps_si256(b), _mm256_set1_epi16(0xff));
    let even = _mm256_madd_epi16(_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a)), _mm256_and_si256(b, low));
    let odd = _mm256_madd_epi16(_mm256_srai_epi16::<8>(a), _mm256_srli_epi16::<8>(b));
    join_256(sum, _mm256_castsi256_ps(_mm256_add_epi32(even, odd)))
});
