//! Which weights of a softmax stay, with the queries along the lanes: never in memory, drawn where they are needed.

use super::layout::{Block, Head};
use super::micro::LANES;
use super::softmax::MOST;
use crate::op::Dropout;
use crate::philox::{BLOCKS, Key};

/// Keys of one Philox block: a half of a word each. Blocks of keys begin at multiples of it, as of register tiles.
pub(super) const HALVES: usize = 8;

/// The dropout of one run.
#[derive(Clone, Copy)]
pub(super) struct Dropped {
    key: Key,
    /// The least half that keeps its weight, in the upper half of the word.
    least: u32,
    /// What a weight that stays is multiplied by.
    scale: f32,
}

impl Dropped {
    /// Zero with probability `p`, rounded to a whole number of 65536ths below 1.
    pub(super) fn new((Dropout { p, stream }, rng): (Dropout, &[u32])) -> Self {
        let least = (f64::from(p) * 65_536.0).round().min(65_535.0) as u32;
        Self { key: Key::new(rng, stream), least: least << 16, scale: 65_536.0 / (65_536 - least) as f32 }
    }

    /// The mask of a block of queries.
    pub(super) fn of(self, head: Head, block: &Block) -> Kept {
        let mut kept = Kept { dropped: self, rows: [0; MOST], indices: [0; MOST] };
        for (r, (row, index)) in kept.rows.iter_mut().zip(&mut kept.indices).enumerate().take(block.count) {
            let (query_head, query) = head.query(block.first + r);
            (*row, *index) = (query_head as u32, (query as u32) << 16);
        }
        kept
    }
}

/// The mask of a block of queries: a function of the position and head of each, and of the key.
pub(super) struct Kept {
    dropped: Dropped,
    /// The head of each query, counted over the batch.
    rows: [u32; MOST],
    /// 2^16 times the position of each query.
    indices: [u32; MOST],
}

impl Kept {
    /// What a weight that stays is multiplied by.
    #[inline(always)]
    pub(super) fn scale(&self) -> f32 {
        self.dropped.scale
    }

    /// The draws of queries `at .. at + LANES` for the `HALVES` keys from `key` on, a multiple of it: a word each two keys.
    #[inline(always)]
    pub(super) fn draws(&self, at: usize, key: usize) -> [[u32; LANES]; HALVES / 2] {
        const { assert!(LANES == BLOCKS) };
        debug_assert!(key.is_multiple_of(HALVES));
        let rows = self.rows[at..].first_chunk().expect("whole vectors of queries");
        let mut indices: [u32; LANES] = *self.indices[at..].first_chunk().expect("whole vectors of queries");
        for index in &mut indices {
            *index += (key / HALVES) as u32;
        }
        self.dropped.key.blocks(rows, &indices)
    }

    /// `x` where a weight stays, else zero: the low half of a `word` is that of the first key, the high half of the second.
    #[inline(always)]
    pub(super) fn keep<const SECOND: bool>(&self, word: &[u32; LANES], x: [f32; LANES]) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        for l in 0..LANES {
            let half = if SECOND { word[l] } else { word[l] << 16 };
            out[l] = if half >= self.dropped.least { x[l] } else { 0.0 };
        }
        out
    }
}
