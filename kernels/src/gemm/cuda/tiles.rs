//! Which tile: a model of the time in cycles, in which every processor multiplies the tiles that it holds at one time, wave
//! after wave.

use super::Form;

/// A kernel's tile of C, and what its blocks take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    /// The entries: nt, nn, tn, and the step of AdamW.
    entries: [&'static str; 4],
    /// Of C.
    pub(crate) rows: usize,
    /// Of C.
    pub(crate) cols: usize,
    /// Of k in a step.
    depth: usize,
    /// Of a block.
    pub(crate) threads: u32,
    /// Bytes of shared memory.
    pub(crate) shared: usize,
    /// Blocks that share a processor.
    pub(crate) together: usize,
    /// Cycles of a step on a processor that does nothing else, and the least that a step takes.
    cycles: f64,
    latency: f64,
}

macro_rules! entries {
    ($family:literal, $tile:literal) => {
        [
            concat!($family, "_nt_", $tile),
            concat!($family, "_nn_", $tile),
            concat!($family, "_tn_", $tile),
            concat!($family, "_step_", $tile),
        ]
    };
}

/// Bytes of shared memory through which a warp's sums leave.
const STAGE: usize = 4096;

const fn warps(entries: [&'static str; 4], side: usize, stages: usize, cycles: f64) -> Tile {
    let (threads, together) = if side == 128 { (256, 2) } else { (128, 4) };
    let shared = stages * 2 * side * 64;
    Tile { entries, rows: side, cols: side, depth: 32, threads, shared, together, cycles, latency: 300.0 }
}

/// Of bf16 by warps: 85 % of 1024 multiply-adds a cycle, less in small tiles.
pub(super) const BF16: [Tile; 2] =
    [warps(entries!("product_bf16", "128"), 128, 3, 600.0), warps(entries!("product_bf16", "64"), 64, 4, 190.0)];
/// The same for rows of any length.
pub(super) const BF16_ANY: [Tile; 1] = [warps(entries!("product_bf16", "any"), 64, 2, 600.0)];

/// Of int8, which has nt alone: twice as deep.
pub(super) const INT8: [Tile; 2] =
    [warps(entries!("product_int8", "128"), 128, 3, 600.0), warps(entries!("product_int8", "64"), 64, 4, 190.0)];
/// The same for rows of any length.
pub(super) const INT8_ANY: [Tile; 1] = [warps(entries!("product_int8", "any"), 64, 2, 600.0)];

const fn single(entries: [&'static str; 4], side: usize, cycles: f64) -> Tile {
    let together = if side == 128 { 2 } else { 3 };
    // Three stages of two operands in the wider of their forms, [side, 20].
    let shared = 3 * 2 * side * 20 * 4;
    Tile { entries, rows: side, cols: side, depth: 16, threads: 256, shared, together, cycles, latency: 600.0 }
}

/// Of f32: 80 % of 128 multiply-adds a cycle.
pub(super) const F32: [Tile; 2] =
    [single(entries!("product_f32", "128"), 128, 2500.0), single(entries!("product_f32", "64"), 64, 750.0)];
/// The same for rows of any length.
pub(super) const F32_ANY: [Tile; 1] = [single(entries!("product_f32", "any"), 64, 900.0)];

const fn groups(
    entries: [&'static str; 4],
    (rows, cols): (usize, usize),
    (stages, together): (usize, usize),
    cycles: f64,
) -> Tile {
    let groups = rows / 64;
    let shared = stages * ((rows + cols) * 128 + 16) + 4 * groups * STAGE;
    let threads = 128 * (1 + groups as u32);
    Tile { entries, rows, cols, depth: 64, threads, shared, together, cycles, latency: 220.0 }
}

const WIDE: Tile = groups(entries!("product_hopper", "128x256"), (128, 256), (4, 1), 1024.0);
const SQUARE: Tile = groups(entries!("product_hopper", "128x128"), (128, 128), (6, 1), 540.0);
const HALF: Tile = groups(entries!("product_hopper", "64x128"), (64, 128), (4, 2), 300.0);
const SMALL: Tile = groups(entries!("product_hopper", "64x64"), (64, 64), (4, 2), 190.0);

/// Of bf16 by warpgroups: 2048 multiply-adds a cycle.
pub(super) const HOPPER: [Tile; 4] = [WIDE, SQUARE, HALF, SMALL];
/// Those that also step.
pub(super) const HOPPER_STEP: [Tile; 2] = [SQUARE, SMALL];

/// Cycles from the start of a tile to its first product, and of handing out 64 elements of C.
const FILL: f64 = 1200.0;
const FINISH: f64 = 4.0;
/// Cycles that a launch takes, and bytes of parts that all processors write or read in one.
const LAUNCH: f64 = 3500.0;
const BYTES: f64 = 2500.0;
/// Most parts of k, and the fewest steps of one.
const PARTS: usize = 16;
const STEPS: usize = 8;

impl Tile {
    /// The entry that multiplies factors that lie so, or steps.
    pub(super) fn entry(&self, form: Form, step: bool) -> &'static str {
        match (form, step) {
            (_, true) => self.entries[3],
            (Form::Nt, false) => self.entries[0],
            (Form::Nn, false) => self.entries[1],
            (Form::Tn, false) => self.entries[2],
        }
    }

    /// Tiles of C [m, n].
    pub(super) fn count(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.cols)
    }

    /// Cycles of `count` products in parts.
    fn time(&self, processors: usize, (m, n, k): (usize, usize, usize), count: usize, parts: usize) -> f64 {
        let blocks = self.count(m, n) * count * parts;
        let waves = blocks.div_ceil(processors * self.together);
        let shared = blocks.div_ceil(processors).min(self.together) as f64;
        let steps = k.div_ceil(self.depth).div_ceil(parts) as f64;
        let finish = (self.rows * self.cols) as f64 / 64.0 * FINISH;
        let wave = steps * self.latency.max(shared * self.cycles) + FILL + shared * finish;
        let join = if parts == 1 { 0.0 } else { LAUNCH + (2 * parts + 1) as f64 * (4 * m * n) as f64 / BYTES };
        waves as f64 * wave + join
    }

    /// `wanted` parts of k or as many as are not empty.
    fn parts(&self, k: usize, wanted: usize) -> usize {
        let steps = k.div_ceil(self.depth);
        steps.div_ceil(steps.div_ceil(wanted))
    }

    /// The fastest of `tiles` for `count` products, and into how many parts it cuts k: one, unless `split`.
    pub(super) fn choose(
        tiles: &'static [Tile],
        processors: usize,
        shape: (usize, usize, usize),
        count: usize,
        split: bool,
    ) -> (&'static Tile, usize) {
        let most = |tile: &Tile| if split { (shape.2.div_ceil(tile.depth) / STEPS).clamp(1, PARTS) } else { 1 };
        let ways = tiles.iter().flat_map(|tile| (1..=most(tile)).map(move |parts| (tile, tile.parts(shape.2, parts))));
        let time = |&(tile, parts): &(&Tile, usize)| tile.time(processors, shape, count, parts);
        ways.min_by(|a, b| time(a).total_cmp(&time(b))).expect("a kernel has at least one tile")
    }
}
