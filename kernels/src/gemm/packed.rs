//! A factor B packed once, for weights that many products share and nothing changes.

use super::pack::{LANES, Part, pack};
use super::{Elements, Factor, Layout, Precision, Unit, tiles};
use crate::isa::Isa;
use galatea_tensor::bf16;

/// Words that hold weights [n, k] in bf16 in the order of any level: panels of 48 columns whose last is as narrow as sixteen,
/// or whole steps of tiles of 32.
pub fn packed_words(n: usize, k: usize) -> usize {
    n.next_multiple_of(tiles::SIDE) * k.next_multiple_of(2 * LANES) / 2
}

/// Packs w [n, k] for products x w^T at this level: block by block of k, within it panel by panel. A level that multiplies no
/// bf16 packs f32 words, which would take twice the memory: there the words are w as it lies.
///
/// # Panics
/// If `words` has not [`packed_words`].
pub fn pack_weights(isa: Isa, (n, k): (usize, usize), w: &[bf16], words: &mut [u32]) {
    pack_for(isa, Unit::choose(isa, Precision::Bf16), (n, k), w, words);
}

pub(super) fn pack_for(isa: Isa, unit: Unit, (n, k): (usize, usize), w: &[bf16], words: &mut [u32]) {
    assert_eq!((w.len(), words.len()), (n * k, packed_words(n, k)), "weights [{n}, {k}] and their words");
    if !packs(unit) {
        bytemuck::cast_slice_mut::<u32, bf16>(words)[..n * k].copy_from_slice(w);
        return;
    }
    let (factor, (_, order)) = (Factor::new(w, k, Layout::Transposed), unit.orders());
    for (ks, j, cols) in panels(unit, n, k) {
        let part = Part::of_b(factor, (j, cols), ks);
        pack(isa, unit.word(), order, &part, &mut words[offset(unit, n, ks, j)..]);
    }
}

/// Whether a unit has an order of its own for weights.
fn packs(unit: Unit) -> bool {
    match unit {
        Unit::Tiles(..) => true,
        Unit::Vectors(word) => word.depth() == 2,
    }
}

/// (block of k, first column, end) of every panel in the order of memory.
fn panels(unit: Unit, n: usize, k: usize) -> impl Iterator<Item = ((usize, usize), usize, usize)> {
    let (depth, wide) = (unit.depth() * unit.word().depth(), unit.tile().1);
    let blocks = (0..k).step_by(depth).map(move |from| (from, (from + depth).min(k)));
    blocks.flat_map(move |ks| (0..n).step_by(wide).map(move |j| (ks, j, (j + wide).min(n))))
}

/// Words before the panel at column `j` of the block `ks`: all earlier blocks, then this block's earlier panels, which are
/// whole.
fn offset(unit: Unit, n: usize, ks: (usize, usize), j: usize) -> usize {
    let depth = (ks.1 - ks.0).div_ceil(unit.word().depth());
    match unit {
        Unit::Vectors(word) => ks.0 / word.depth() * n.next_multiple_of(LANES) + j * depth,
        Unit::Tiles(..) => {
            let panels = n.div_ceil(tiles::SIDE);
            let before = ks.0 / unit.word().depth() / LANES * panels;
            (before + j / tiles::SIDE * depth.div_ceil(LANES)) * tiles::STEP
        }
    }
}

/// The right factor of a product: as it lies, or packed by [`pack_weights`].
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// B in memory.
    Plain(Factor<'a>),
    /// w of x w^T, packed at this process's level; for a gated product its two halves, one after the other.
    Packed(&'a [u32]),
}

impl<'a> Right<'a> {
    /// This factor for a unit: words that the unit has no order for are weights as they lie.
    pub(super) fn of(self, unit: Unit, halves: usize, n: usize, k: usize) -> Self {
        match self {
            Right::Packed(words) if !packs(unit) => {
                assert_eq!(words.len(), halves * packed_words(n, k), "packed weights [{n}, {k}]");
                let w = &bytemuck::cast_slice::<u32, bf16>(words)[..(halves - 1) * self.apart(n, k) + n * k];
                Right::Plain(Factor { data: Elements::Bf16(w), stride: k, layout: Layout::Transposed })
            }
            other => other,
        }
    }

    /// Elements (bf16 of packed words) from the columns of a gated product's first half to those of its second.
    pub(super) fn apart(self, n: usize, k: usize) -> usize {
        match self {
            Right::Plain(Factor { layout: Layout::Normal, .. }) => n,
            Right::Plain(Factor { layout: Layout::Transposed, stride, .. }) => n * stride,
            Right::Packed(_) => 2 * packed_words(n, k),
        }
    }

    /// # Panics
    /// If the factor ends before n columns that begin `apart` elements after its first.
    pub(super) fn check(self, n: usize, k: usize, apart: usize) {
        match self {
            Right::Plain(factor) => factor.after(apart).check(k, n),
            Right::Packed(words) => {
                assert_eq!(words.len(), packed_words(n, k) + apart / 2, "packed weights [{n}, {k}]");
            }
        }
    }
}

/// The packed words of the panel at column `j` of one half of the weights, in the block `ks`.
pub(super) fn panel(
    words: &[u32],
    unit: Unit,
    (n, k): (usize, usize),
    half: usize,
    ks: (usize, usize),
    j: usize,
) -> &[u32] {
    &words[half * packed_words(n, k) + offset(unit, n, ks, j)..]
}
