//! Where words come from: f32, bf16 or int8 in memory, one, two or four elements to a word.

use super::pack::LANES;
use crate::real::Real;
use galatea_tensor::bf16;

/// A source of words.
pub(super) trait Source: Copy {
    /// Where element `at` lies, for a prefetch: it may be beyond the end.
    fn address(self, at: usize) -> *const u8;
    /// 16 words of `elements` elements from `at` on, along memory: for a source of pairs, pairs of neighbours.
    fn along<const WHOLE: bool>(self, at: usize, elements: usize) -> [u32; LANES];
    /// `lanes` words whose elements along k are `stride` apart (`left` of them before the end of k).
    fn across<const WHOLE: bool>(self, at: usize, stride: usize, lanes: usize, left: usize) -> [u32; LANES];
}

/// Words of one f32, rounded to bf16 if `round`.
#[derive(Clone, Copy)]
pub(super) struct Singles<'a> {
    pub(super) x: &'a [f32],
    pub(super) round: bool,
}

/// Words of one f32 from bf16.
#[derive(Clone, Copy)]
pub(super) struct Widened<'a> {
    pub(super) x: &'a [bf16],
}

/// Words of two bf16 rounded from f32.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a> {
    pub(super) x: &'a [f32],
}

/// Words of two bf16.
#[derive(Clone, Copy)]
pub(super) struct Halves<'a> {
    pub(super) x: &'a [bf16],
}

/// Four int8 a word.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a> {
    pub(super) x: &'a [i8],
    /// Bits that are turned over in every word.
    pub(super) flip: u32,
}

/// The first `count` of `N` values, zero beyond. `WHOLE` says that there are `N`: without the other case the values stay in a
/// register.
#[inline(always)]
fn first<T: Copy, const N: usize, const WHOLE: bool>(x: &[T], at: usize, count: usize, zero: T) -> [T; N] {
    if WHOLE {
        return *x[at..].first_chunk().expect("a whole row of words");
    }
    let mut out = [zero; N];
    out[..count].copy_from_slice(&x[at..at + count]);
    out
}

#[inline(always)]
fn half(x: f32) -> u32 {
    u32::from(bf16::store(x).to_bits())
}

impl Source for Singles<'_> {
    #[inline(always)]
    fn address(self, at: usize) -> *const u8 {
        self.x.as_ptr().wrapping_add(at).cast()
    }

    #[inline(always)]
    fn along<const WHOLE: bool>(self, at: usize, elements: usize) -> [u32; LANES] {
        let x = first::<_, LANES, WHOLE>(self.x, at, elements, 0.0);
        if self.round { x.map(|x| half(x) << 16) } else { x.map(f32::to_bits) }
    }

    #[inline(always)]
    fn across<const WHOLE: bool>(self, at: usize, _stride: usize, lanes: usize, _left: usize) -> [u32; LANES] {
        self.along::<WHOLE>(at, lanes)
    }
}

impl Source for Widened<'_> {
    #[inline(always)]
    fn address(self, at: usize) -> *const u8 {
        self.x.as_ptr().wrapping_add(at).cast()
    }

    #[inline(always)]
    fn along<const WHOLE: bool>(self, at: usize, elements: usize) -> [u32; LANES] {
        first::<_, LANES, WHOLE>(self.x, at, elements, bf16::ZERO).map(|x| u32::from(x.to_bits()) << 16)
    }

    #[inline(always)]
    fn across<const WHOLE: bool>(self, at: usize, _stride: usize, lanes: usize, _left: usize) -> [u32; LANES] {
        self.along::<WHOLE>(at, lanes)
    }
}

impl Source for Pairs<'_> {
    #[inline(always)]
    fn address(self, at: usize) -> *const u8 {
        self.x.as_ptr().wrapping_add(at).cast()
    }

    #[inline(always)]
    fn along<const WHOLE: bool>(self, at: usize, elements: usize) -> [u32; LANES] {
        let x = first::<_, { 2 * LANES }, WHOLE>(self.x, at, elements, 0.0);
        std::array::from_fn(|i| half(x[2 * i]) | half(x[2 * i + 1]) << 16)
    }

    #[inline(always)]
    fn across<const WHOLE: bool>(self, at: usize, stride: usize, count: usize, left: usize) -> [u32; LANES] {
        let low = first::<_, LANES, WHOLE>(self.x, at, count, 0.0);
        let high = if left > 1 { first::<_, LANES, WHOLE>(self.x, at + stride, count, 0.0) } else { [0.0; LANES] };
        std::array::from_fn(|i| half(low[i]) | half(high[i]) << 16)
    }
}

impl Source for Halves<'_> {
    #[inline(always)]
    fn address(self, at: usize) -> *const u8 {
        self.x.as_ptr().wrapping_add(at).cast()
    }

    #[inline(always)]
    fn along<const WHOLE: bool>(self, at: usize, elements: usize) -> [u32; LANES] {
        // Neighbours are a word already, where the first byte is the lowest.
        if cfg!(target_endian = "little") {
            return bytemuck::must_cast(first::<_, { 2 * LANES }, WHOLE>(self.x, at, elements, bf16::ZERO));
        }
        let x = first::<_, { 2 * LANES }, WHOLE>(self.x, at, elements, bf16::ZERO);
        std::array::from_fn(|i| u32::from(x[2 * i].to_bits()) | u32::from(x[2 * i + 1].to_bits()) << 16)
    }

    #[inline(always)]
    fn across<const WHOLE: bool>(self, at: usize, stride: usize, count: usize, left: usize) -> [u32; LANES] {
        let low = first::<_, LANES, WHOLE>(self.x, at, count, bf16::ZERO);
        let high = if left > 1 {
            first::<_, LANES, WHOLE>(self.x, at + stride, count, bf16::ZERO)
        } else {
            [bf16::ZERO; LANES]
        };
        std::array::from_fn(|i| u32::from(low[i].to_bits()) | u32::from(high[i].to_bits()) << 16)
    }
}

impl Source for Bytes<'_> {
    #[inline(always)]
    fn address(self, at: usize) -> *const u8 {
        self.x.as_ptr().wrapping_add(at).cast()
    }

    #[inline(always)]
    fn along<const WHOLE: bool>(self, at: usize, elements: usize) -> [u32; LANES] {
        let bytes = first::<_, { 4 * LANES }, WHOLE>(self.x, at, elements, 0);
        let words: [u32; LANES] = bytemuck::must_cast(bytes);
        words.map(|word| u32::from_le(word) ^ self.flip)
    }

    #[inline(always)]
    fn across<const WHOLE: bool>(self, at: usize, stride: usize, count: usize, left: usize) -> [u32; LANES] {
        let mut words = [0; LANES];
        for c in 0..left.min(4) {
            let bytes = first::<_, LANES, WHOLE>(self.x, at + c * stride, count, 0);
            words.iter_mut().zip(bytes).for_each(|(word, byte)| *word |= u32::from(byte as u8) << (8 * c));
        }
        words.map(|word| word ^ self.flip)
    }
}
