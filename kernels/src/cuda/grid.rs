//! Grids: how elements, rows and columns become threads.

use super::launch::{Launch, Machine, Source};
use galatea_tensor::{DType, Slot};

/// The name of a kernel that exists for both types of activations.
pub(crate) fn typed(dtype: DType, f32: &'static str, bf16: &'static str) -> &'static str {
    if dtype == DType::Bf16 { bf16 } else { f32 }
}

/// Elements of a vector of 16 bytes where rows of `d` are made of whole ones, else 1.
pub(crate) fn piece(dtype: DType, d: usize) -> usize {
    let n = 16 / dtype.size();
    if d.is_multiple_of(n) { n } else { 1 }
}

/// The next operand, if the op has it.
pub(crate) fn take<'a>(operands: &mut impl Iterator<Item = &'a Slot>, asked: bool) -> Option<&'a Slot> {
    if asked { operands.next() } else { None }
}

/// A thread for every vector of 16 bytes of a flat tensor of this type.
pub(crate) fn each(source: &'static Source, entry: &'static str, dtype: DType, len: usize) -> Launch {
    Launch::over(source, entry, len.div_ceil(16 / dtype.size()))
}

/// A thread for every piece of rows of `d`: the kernel is `each_in_rows`.
pub(crate) fn each_in_rows(
    source: &'static Source,
    entry: &'static str,
    dtype: DType,
    rows: usize,
    d: usize,
) -> Launch {
    Launch::over(source, entry, rows * d / piece(dtype, d))
}

/// How the threads of a block share rows: the kernel is one over a `Group` (row.cuh).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    /// Threads of a row: a power of two of a warp's lanes, or more than 32, the block.
    pub(crate) lanes: u32,
    /// Threads of a block.
    pub(crate) threads: u32,
}

impl Groups {
    /// Elements of a row that a thread keeps in registers, by the elements of a piece (`HELD` of row.cuh).
    pub(crate) fn held(piece: usize) -> usize {
        if piece == 1 { 8 } else { 32 }
    }

    /// For rows of `d` in pieces, a thread holding `held` elements, in blocks of at most `most` threads.
    pub(crate) fn new(d: usize, piece: usize, held: usize, most: u32) -> Self {
        if d <= 32 * held {
            let lanes = d.div_ceil(piece).next_power_of_two().min(32) as u32;
            Self { lanes, threads: 128 }
        } else {
            let threads = (d.div_ceil(held) as u32).next_multiple_of(32).clamp(64, most);
            Self { lanes: threads, threads }
        }
    }

    /// For rows of `v` logits in f32.
    pub(crate) fn of_logits(v: usize) -> Self {
        let whole = piece(DType::F32, v);
        Self::new(v, whole, Self::held(whole), 512)
    }

    /// Rows that a block works on at a time.
    pub(crate) fn rows(self) -> usize {
        (self.threads / self.lanes) as usize
    }

    /// Blocks for `rows`, at most so many.
    pub(crate) fn blocks(self, rows: usize, most: usize) -> usize {
        rows.div_ceil(self.rows()).min(most)
    }

    /// A launch of so many blocks.
    pub(crate) fn launch(self, source: &'static Source, entry: &'static str, blocks: usize) -> Launch {
        Launch::new(source, entry, [blocks as u32, 1, 1], self.threads)
    }
}

/// How sums over rows are shared (columns.cuh).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Elements of a lane.
    pub(crate) piece: usize,
    /// Strips of columns.
    pub(crate) tiles: usize,
    /// Blocks that share the rows of a strip.
    pub(crate) parts: usize,
    /// Rows of each of them.
    pub(crate) per: usize,
    /// Warps of a block.
    pub(crate) warps: usize,
}

impl Split {
    /// For sums of `count` rows of `width` in each of some segments: enough blocks for the machine, if the rows are.
    pub(crate) fn new(machine: Machine, segments: usize, width: usize, piece: usize, count: usize) -> Self {
        let (tiles, warps) = (width.div_ceil(32 * piece), count.div_ceil(4).next_power_of_two().min(16));
        let wanted = (2 * machine.processors as usize).div_ceil(segments * tiles);
        let per = count.div_ceil(wanted.clamp(1, count.div_ceil(32 * warps)));
        Self { piece, tiles, parts: count.div_ceil(per), per, warps }
    }

    /// A launch over the segments, for `sums` sums a column.
    pub(crate) fn launch(self, source: &'static Source, entry: &'static str, segments: usize, sums: usize) -> Launch {
        let shared = if self.warps == 1 { 0 } else { 4 * 32 * self.warps * sums * self.piece };
        let blocks = (segments * self.tiles * self.parts) as u32;
        Launch::new(source, entry, [blocks, 1, 1], 32 * self.warps as u32).shared(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Arch;

    #[test]
    fn a_group_holds_its_row_unless_no_block_can() {
        for piece in [1, 4, 8] {
            let held = Groups::held(piece);
            for d in (1..3000).chain([32 * held, 32 * held + 1, 1 << 20]) {
                let groups = Groups::new(d, piece, held, 256);
                assert!(groups.threads <= 256 && groups.threads.is_multiple_of(32), "{groups:?}");
                let capacity = groups.lanes as usize * held;
                assert!(capacity >= d || groups.threads == 256, "{d} in pieces of {piece}: {groups:?}");
                let alone = groups.lanes <= 32 && groups.lanes.is_power_of_two() && 32 % groups.lanes == 0;
                assert!(alone || groups.lanes == groups.threads, "{groups:?}");
            }
        }
    }

    #[test]
    fn every_row_is_in_one_part() {
        let machine = Machine { arch: Arch::Sm80, processors: 132 };
        for (segments, width, count) in
            [(1, 768, 264), (2, 768, 4096), (64, 768, 128), (1, 98_304, 64), (1, 1, 1 << 20)]
        {
            let split = Split::new(machine, segments, width, piece(DType::F32, width), count);
            assert!(split.per * split.parts >= count && split.per * (split.parts - 1) < count, "{split:?}");
            assert!(split.warps.is_power_of_two() && split.warps <= 16);
        }
    }
}
