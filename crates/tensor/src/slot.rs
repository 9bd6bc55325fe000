//! Where a tensor lives.

use crate::{DType, Shape};

/// The flat buffers of a run. The optimizer, the average and checkpoints see `Param`, `Grad`, `Moment` as one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// Parameters (masters).
    Param,
    /// Gradients, at the same offsets as `Param`.
    Grad,
    /// Optimizer moments and the running average.
    Moment,
    /// Activations: planned by liveness, worthless between runs.
    Work,
    /// What the host writes before a run: inputs, times, coefficients, the random key; and constants.
    Step,
}

impl Region {
    /// All regions, in the order of [`Region::index`].
    pub const ALL: [Region; 5] = [Region::Param, Region::Grad, Region::Moment, Region::Work, Region::Step];

    /// The position in [`Region::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Region::Param => 0,
            Region::Grad => 1,
            Region::Moment => 2,
            Region::Work => 3,
            Region::Step => 4,
        }
    }
}

/// A tensor's place: region, byte offset, shape, element type. Fixed before the first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The buffer.
    pub region: Region,
    /// Bytes from its start; a multiple of [`Slot::ALIGN`].
    pub offset: usize,
    /// Extents.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Slot {
    /// Every slot starts on a cache line.
    pub const ALIGN: usize = 64;

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.shape.len() * self.dtype.size()
    }

    /// One past the last byte.
    pub fn end(&self) -> usize {
        self.offset + self.bytes()
    }

    /// Whether two slots share a byte.
    pub fn overlaps(&self, other: &Slot) -> bool {
        self.region == other.region && self.offset < other.end() && other.offset < self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_symmetric_and_needs_a_shared_byte() {
        let slot = |region, offset| Slot { region, offset, shape: Shape::new(&[16]), dtype: DType::F32 };
        let (a, b, c) = (slot(Region::Work, 0), slot(Region::Work, 64), slot(Region::Work, 32));
        assert!(!a.overlaps(&b) && !b.overlaps(&a));
        assert!(a.overlaps(&c) && c.overlaps(&a) && c.overlaps(&b));
        assert!(!a.overlaps(&slot(Region::Step, 0)));
    }

    #[test]
    fn region_index_is_its_position() {
        for (i, region) in Region::ALL.into_iter().enumerate() {
            assert_eq!(region.index(), i);
        }
    }
}
