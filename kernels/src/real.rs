//! The element types of activations: what a kernel reads and writes, while it computes in f32.

use galatea_tensor::{Elem, bf16};

/// f32 or bf16. A kernel that is generic over it converts on the way in and out; sums and statistics are f32.
pub trait Real: Elem {
    /// The value.
    fn load(self) -> f32;
    /// The nearest value of this type, ties to even; NaN stays NaN.
    fn store(x: f32) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn load(self) -> f32 {
        self
    }

    #[inline(always)]
    fn store(x: f32) -> Self {
        x
    }
}

impl Real for bf16 {
    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    // Without a branch, so that loops vectorise: the carry of the discarded half rounds to even.
    #[inline(always)]
    fn store(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        bf16::from_bits(if x.is_nan() { 0x7fc0 } else { rounded as u16 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storing_rounds_to_nearest_even_like_the_half_crate() {
        for i in 0..200_000u32 {
            let x = f32::from_bits(i.wrapping_mul(21_474_836).rotate_left(7));
            let (ours, theirs) = (bf16::store(x), bf16::from_f32(x));
            assert!(ours == theirs || (x.is_nan() && ours.is_nan()), "{x}: {ours} and {theirs}");
            assert_eq!(ours.load().to_bits(), ours.to_f32().to_bits());
        }
        assert_eq!(bf16::store(f32::MAX), bf16::INFINITY);
    }
}
