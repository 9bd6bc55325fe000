//! The matrix product C = op(A) op(B): blocked, packed, in f32 or in bf16 with f32 sums, for every instruction level.
//!
//! C is cut into tasks by its shape alone, and a task sums over the whole of k in one order, so no bit depends on the number
//! of threads. Within a task k is cut into blocks. Of each block B is packed into panels as wide as the micro-kernel's tile;
//! A is read where it lies when its words are there already, and packed when it has to be transposed or rounded. Tiles of C
//! are summed in a buffer of the thread, and the last block hands each to the [`Epilogue`] while it is in cache.
//!
//! Factors may be f32 or bf16 in any combination; [`Precision`] says what is multiplied. Where the processor multiplies no
//! bf16, the factors are rounded to bf16 all the same and multiplied in f32. Products of int8 are sums in i32, which travel
//! through the same tiles by their bits until a sink scales them ([`int8`]).

mod ahead;
mod batch;
pub(crate) mod cuda;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
mod emulator;
mod factor;
mod few;
mod finish;
pub mod int8;
mod pack;
mod packed;
pub(crate) mod tiles;
mod vector;
mod words;

pub use batch::{Batch, gemm_batch};
pub use factor::{Elements, ElementsMut, Factor, Layout, Precision};
pub use finish::Epilogue;
pub use packed::{Right, pack_weights, packed_words};

use crate::cpu::Cores;
use crate::isa::Isa;
use ahead::Ahead;
pub(crate) use ahead::prefetch;
pub(crate) use finish::Sink;
use pack::{Order, Part, Word, pack};
use std::cell::RefCell;
use vector::{COLS, Product, ROWS, Strip};

/// Most rows of C that a task owns: they share each packed panel of B, whose packing is then a few percent of the work.
const TASK_ROWS: usize = 256;
/// Most words along k that are packed at once: a strip of A stays in L1, a panel of B (72 KiB) in L2.
const DEPTH: usize = 384;
/// The same for tiles: 32 rows of A and of B (16 KiB each) stay in L1 together.
const TILE_DEPTH: usize = 128;
/// Most rows of a task on tiles, which multiply so fast that packing B weighs more.
const TILE_TASK_ROWS: usize = 1024;
/// Most panels of a task when k takes several blocks: as many tiles of C wait for the next.
const PANELS: usize = 4;
/// Most panels of a task when k is one block: a packed A is used as often.
const PANELS_AT_ONCE: usize = 16;
/// Most rows of tiles of C that wait for the next block of k, times panels.
const WAITING: usize = TASK_ROWS * PANELS;
/// Fewer tasks than this are cut smaller, so that a few threads share a small product evenly.
const TASKS: usize = 12;
/// ... in columns. Fewer than this are cut in rows too, which then share a packed panel among fewer.
const ROW_TASKS: usize = 6;

/// What computes a tile of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Vectors(Word),
    Tiles(tiles::Unit, tiles::Product),
}

impl Unit {
    fn choose(isa: Isa, precision: Precision) -> Self {
        match (precision, isa) {
            (Precision::F32, _) => Unit::Vectors(Word::Single),
            (Precision::Bf16, Isa::Amx) => Unit::Tiles(tiles::Unit::Hardware, tiles::Product::Pairs),
            (Precision::Bf16, Isa::Avx512Bf16) => Unit::Vectors(Word::Pair),
            (Precision::Bf16, Isa::Portable | Isa::Avx2 | Isa::Avx512) => Unit::Vectors(Word::Rounded),
            (Precision::Int8, Isa::Amx) => Unit::Tiles(tiles::Unit::Hardware, tiles::Product::Quads),
            (Precision::Int8, Isa::Portable | Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16) => Unit::Vectors(Word::Quad),
        }
    }

    fn word(self) -> Word {
        match self {
            Unit::Vectors(word) => word,
            Unit::Tiles(_, tiles::Product::Pairs) => Word::Pair,
            Unit::Tiles(_, tiles::Product::Quads) => Word::Quad,
        }
    }

    /// What B is packed as.
    fn word_of_b(self) -> Word {
        match self.word() {
            Word::Quad => Word::Lifted,
            word => word,
        }
    }

    /// Rows and columns of a tile.
    fn tile(self) -> (usize, usize) {
        match self {
            Unit::Vectors(_) => (ROWS, COLS),
            Unit::Tiles(..) => (tiles::SIDE, tiles::SIDE),
        }
    }

    fn task_rows(self) -> usize {
        match self {
            Unit::Vectors(_) => TASK_ROWS,
            Unit::Tiles(..) => TILE_TASK_ROWS,
        }
    }

    /// Words along k of a block.
    fn depth(self) -> usize {
        match self {
            Unit::Vectors(_) => DEPTH,
            Unit::Tiles(..) => TILE_DEPTH,
        }
    }

    fn orders(self) -> (Order, Order) {
        match self {
            Unit::Vectors(_) => {
                (Order::DepthMajor { width: ROWS, step: ROWS }, Order::DepthMajor { width: COLS, step: pack::LANES })
            }
            Unit::Tiles(..) => (Order::SpanTiles, Order::DepthTiles),
        }
    }
}

/// How C is shared out: tasks of `rows` rows and `cols` columns, and elements along k of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocking {
    rows: usize,
    cols: usize,
    depth: usize,
}

impl Blocking {
    /// From the shape alone, so that no bit depends on the machine's threads.
    fn new(unit: Unit, count: usize, halves: usize, (m, n, k): (usize, usize, usize)) -> Self {
        let (tile_rows, tile_cols) = unit.tile();
        let depth = unit.depth() * unit.word().depth();
        let mut panels = if k <= depth { PANELS_AT_ONCE } else { PANELS / halves };
        let mut rows = unit.task_rows();
        let tasks = |rows: usize, panels: usize| count * m.div_ceil(rows) * n.div_ceil(panels * tile_cols);
        while tasks(rows, panels) < TASKS && panels > 1 {
            panels -= 1;
        }
        let waiting = |rows: usize, panels: usize| match (k <= depth, halves) {
            (true, 1) => 0,
            (true, _) => rows * halves,
            (false, _) => rows * halves * panels,
        };
        while (tasks(rows, panels) < ROW_TASKS && rows > 2 * tile_rows) || waiting(rows, panels) > WAITING {
            rows /= 2;
        }
        Self { rows, cols: panels * tile_cols, depth }
    }
}

/// A thread's buffers, as large as they will ever be: allocated once in its life.
struct Buffers {
    a: Aligned<u32>,
    b: Aligned<u32>,
    c: Aligned<f32>,
}

/// A buffer that begins on a cache line: a vector that crosses lines is loaded at half the speed.
struct Aligned<T> {
    data: Vec<T>,
    first: usize,
}

impl<T: Copy + Default> Aligned<T> {
    fn new(len: usize) -> Self {
        const LINE: usize = 64;
        let data = vec![T::default(); len + LINE / size_of::<T>()];
        let first = data.as_ptr().align_offset(LINE);
        Self { data, first }
    }

    fn get(&mut self) -> &mut [T] {
        &mut self.data[self.first..]
    }
}

const fn most(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        a: Aligned::new(most(TASK_ROWS * DEPTH, TILE_TASK_ROWS * TILE_DEPTH)),
        b: Aligned::new(COLS * DEPTH),
        c: Aligned::new(WAITING * COLS),
    });
}

/// C [m, n] = op(A) op(B) with what `epilogue` says.
///
/// # Panics
/// If a factor, C, or a part of the epilogue is shorter than the shape says.
pub fn gemm(
    cores: &Cores,
    precision: Precision,
    shape: (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    c: ElementsMut<'_>,
    epilogue: Epilogue<'_>,
) {
    assert_ne!(precision, Precision::Int8, "sums of int8 need their scales: `gemm::int8::linear`");
    run(cores, Unit::choose(cores.isa, precision), shape, a, Right::Plain(b), c, epilogue);
}

/// y [m, n] = x w^T for weights that [`pack_weights`] packed at this level, with what `epilogue` says.
///
/// # Panics
/// As [`gemm`].
pub fn product_packed(
    cores: &Cores,
    shape: (usize, usize, usize),
    x: Factor<'_>,
    w: &[u32],
    y: ElementsMut<'_>,
    epilogue: Epilogue<'_>,
) {
    run(cores, Unit::choose(cores.isa, Precision::Bf16), shape, x, Right::Packed(w), y, epilogue);
}

/// [`gemm`] by dot products where the factors allow ([`product_of_few`]).
///
/// # Panics
/// As [`gemm`].
pub(crate) fn gemm_of_few(
    cores: &Cores,
    precision: Precision,
    (m, n, k): (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    c: ElementsMut<'_>,
    epilogue: Epilogue<'_>,
) {
    product_of_few(cores, precision, (m, n, k), a, b, &epilogue.into_sink(m, n, c));
}

/// C [m, n] = op(A) op(B) and nothing else.
///
/// # Panics
/// As [`gemm`].
pub fn product<'a>(
    cores: &Cores,
    precision: Precision,
    shape: (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    c: impl Into<ElementsMut<'a>>,
) {
    gemm(cores, precision, shape, a, b, c.into(), Epilogue::default());
}

/// Hands every finished tile of op(A) op(B) to `sink`, each once; returns the columns of a tile (the last may have fewer).
///
/// # Panics
/// As [`gemm`].
pub(crate) fn product_into(
    cores: &Cores,
    precision: Precision,
    shape: (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    sink: &dyn Sink,
) -> usize {
    let b = Right::Plain(b);
    let unit = Unit::choose(cores.isa, precision);
    run_into(cores, unit, Batch::ONE, shape, a, b, sink);
    unit.tile().1
}

/// [`product_into`] by dot products where the factors allow: for few rows, whose number must not decide.
///
/// # Panics
/// As [`gemm`].
pub(crate) fn product_of_few(
    cores: &Cores,
    precision: Precision,
    (m, n, k): (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    sink: &dyn Sink,
) -> usize {
    if !few::fits(precision, &a, &Right::Plain(b)) {
        return product_into(cores, precision, (m, n, k), a, b, sink);
    }
    few::run(cores, (m, n, k), &a, &b, sink);
    few::COLS
}

fn run(
    cores: &Cores,
    unit: Unit,
    (m, n, k): (usize, usize, usize),
    a: Factor<'_>,
    b: Right<'_>,
    c: ElementsMut<'_>,
    epilogue: Epilogue<'_>,
) {
    run_into(cores, unit, Batch::ONE, (m, n, k), a, b, &epilogue.into_sink(m, n, c));
}

/// Rows of the product number z begin at z m for the sink. A gated product has the columns j and n + j of B for the column j of
/// C.
fn run_into(
    cores: &Cores,
    unit: Unit,
    batch: Batch,
    (m, n, k): (usize, usize, usize),
    a: Factor<'_>,
    b: Right<'_>,
    sink: &dyn Sink,
) {
    let halves = if sink.gated() { 2 } else { 1 };
    let (apart, b) = (b.apart(n, k), b.of(unit, halves, n, k));
    batch.check((m, n, k), a, b, (halves - 1) * apart);
    let bytes = |factor: Factor<'_>| factor.data.precision() == Precision::Int8;
    let both = [bytes(a), matches!(b, Right::Plain(b) if bytes(b))];
    assert_eq!(both, [unit.word() == Word::Quad; 2], "int8 is multiplied by int8 alone");
    let blocking = Blocking::new(unit, batch.count, halves, (m, n, k));
    let (row_tasks, col_tasks) = (m.div_ceil(blocking.rows), n.div_ceil(blocking.cols));
    // Rows first, which share a panel of B, then products. The last columns of a symmetric product are the longest.
    let place = |task: usize| {
        let (z, col) = (task / row_tasks % batch.count, task / row_tasks / batch.count);
        let col = if batch.symmetric { col_tasks.checked_sub(col + 1)? } else { col };
        (col < col_tasks).then_some((z, task % row_tasks * blocking.rows, col * blocking.cols))
    };
    cores.pool.run(row_tasks * col_tasks * batch.count, &|task| {
        let (z, i, j) = place(task).expect("fewer tasks than rectangles");
        let rows = (i, (i + blocking.rows).min(m));
        let cols = (j, (j + blocking.cols).min(n));
        let next = place(task + cores.pool.threads().div_ceil(row_tasks) * row_tasks);
        let next = next.map(|(z, _, j)| (batch.b(b, z), j));
        let (isa, depth, first, symmetric) = (cores.isa, blocking.depth, z * m, batch.symmetric);
        let (a, b) = (batch.a(a, z), batch.b(b, z));
        let task = Task { isa, unit, rows, cols, first, symmetric, next, halves, apart, n, k, depth, a, b, sink };
        BUFFERS.with_borrow_mut(|buffers| match unit {
            Unit::Vectors(_) => task.run(buffers),
            Unit::Tiles(tiles, _) => tiles.with(|| task.run(buffers)),
        });
    });
}

/// A rectangle of C over the whole of k.
struct Task<'a> {
    isa: Isa,
    unit: Unit,
    rows: (usize, usize),
    cols: (usize, usize),
    /// Rows before those of this product in C.
    first: usize,
    /// Whether blocks below the diagonal are left out: whoever takes a tile copies it there.
    symmetric: bool,
    /// B and the first column of the task that this thread probably takes next.
    next: Option<(Right<'a>, usize)>,
    /// Panels of B for each of C, and elements from the columns of the first to those of the second.
    halves: usize,
    apart: usize,
    n: usize,
    k: usize,
    depth: usize,
    a: Factor<'a>,
    b: Right<'a>,
    sink: &'a dyn Sink,
}

impl Task<'_> {
    fn run(&self, buffers: &mut Buffers) {
        let (packed_a, packed_b, tiles_of_c) = (buffers.a.get(), buffers.b.get(), buffers.c.get());
        let (word, (tile_rows, tile_cols)) = (self.unit.word(), self.unit.tile());
        let (order_a, order_b) = self.unit.orders();
        let strips = (self.rows.1 - self.rows.0).div_ceil(tile_rows);
        let one_block = self.k <= self.depth;
        for k in (0..self.k).step_by(self.depth) {
            let ks = (k, (k + self.depth).min(self.k));
            let part_a = Part::of_a(self.a, self.rows, ks);
            let in_place = self.in_place(&part_a);
            if !in_place {
                pack(self.isa, word, order_a, &part_a, packed_a);
            }
            let columns = (self.cols.0..self.cols.1).step_by(tile_cols);
            for (panel, (j, half)) in columns.flat_map(|j| (0..self.halves).map(move |half| (j, half))).enumerate() {
                let cols = (j, (j + tile_cols).min(self.cols.1));
                let end = if self.symmetric { cols.1 } else { self.rows.1 };
                if self.rows.0 >= end {
                    continue;
                }
                let depth = (ks.1 - ks.0).div_ceil(word.depth());
                let words = match self.b {
                    Right::Plain(b) => {
                        let part = Part::of_b(b.after(half * self.apart), cols, ks);
                        pack(self.isa, self.unit.word_of_b(), order_b, &part, packed_b);
                        &*packed_b
                    }
                    Right::Packed(words) => packed::panel(words, self.unit, (self.n, self.k), half, ks, j),
                };
                let mut ahead = self.ahead(ks, j, half);
                // Tiles wait for the next block of k, or for their other half.
                let place = if one_block { half } else { panel } * strips;
                for (strip, i) in (self.rows.0..self.rows.1.min(end)).step_by(tile_rows).enumerate() {
                    let size = tile_rows * tile_cols;
                    let at = if one_block && self.halves == 1 { 0 } else { (place + strip) * size };
                    let (before, tile) = tiles_of_c.split_at_mut(at);
                    let tile = &mut tile[..size];
                    match self.unit {
                        Unit::Vectors(_) => {
                            let strip = if in_place {
                                self.strip_in_place(i, ks.0)
                            } else {
                                let at = strip * ROWS * depth;
                                packed_strip(&packed_a[at..at + ROWS * depth])
                            };
                            let product = match word {
                                Word::Single | Word::Rounded => Product::Singles,
                                Word::Pair => Product::Pairs,
                                Word::Quad | Word::Lifted => Product::Quads,
                            };
                            let vectors = (cols.1 - cols.0).div_ceil(pack::LANES);
                            let tile = tile.first_chunk_mut().expect("a tile of the vector kernel's size");
                            // SAFETY: both packings hold `depth` words a row or column (`pack`), rows in place hold them too
                            // (`Factor::check`, `in_place`).
                            unsafe {
                                vector::micro(
                                    self.isa,
                                    product,
                                    depth,
                                    &strip,
                                    words,
                                    vectors,
                                    tile,
                                    k > 0,
                                    &mut ahead,
                                );
                            }
                        }
                        Unit::Tiles(tiles, product) => {
                            let steps = depth.div_ceil(pack::LANES);
                            let rows = if in_place {
                                self.rows_in_place(i, ks.0)
                            } else {
                                tiles::Rows::packed(&packed_a[strip * steps * tiles::STEP..][..steps * tiles::STEP])
                            };
                            let tile = tile.first_chunk_mut().expect("a tile of the tile unit's size");
                            // SAFETY: as for the vectors; `in_place` has seen that steps and strips are whole.
                            unsafe { tiles.micro(product, steps, rows, words, tile, k > 0) };
                        }
                    }
                    if ks.1 == self.k {
                        let rows = (self.rows.1 - i).min(tile_rows);
                        let (at, count) = ((self.first + i, j), cols.1 - cols.0);
                        match (self.halves, half) {
                            (1, _) => self.sink.tile(self.isa, at, rows, count, tile, tile_cols),
                            (_, 0) => {}
                            _ => {
                                let other = before.len() - strips * size;
                                let tiles = [&mut before[other..other + size], tile];
                                self.sink.pair(self.isa, at, rows, count, tiles, tile_cols);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The lines of B that are needed after the panel at column `j` of the block `ks`: its other half's, the next panel's, the next
    /// block's first, or those where this thread's next task probably begins.
    fn ahead(&self, ks: (usize, usize), j: usize, half: usize) -> Ahead {
        let wide = self.unit.tile().1;
        let block = |k: usize| (k, (k + self.depth).min(self.k));
        let (b, j, half, ks) = if half + 1 < self.halves {
            (self.b, j, half + 1, ks)
        } else if j + wide < self.cols.1 {
            (self.b, j + wide, 0, ks)
        } else if ks.1 < self.k {
            (self.b, self.cols.0, 0, block(ks.1))
        } else {
            let Some((b, j)) = self.next else { return Ahead::nothing() };
            (b, j, 0, block(0))
        };
        match b {
            Right::Plain(b) => Ahead::new(&Part::of_b(b.after(half * self.apart), (j, (j + wide).min(self.n)), ks)),
            Right::Packed(words) => {
                let words = packed::panel(words, self.unit, (self.n, self.k), half, ks, j);
                Ahead::of_words(words, wide * (ks.1 - ks.0).div_ceil(self.unit.word().depth()))
            }
        }
    }

    /// Whether A can be read where it lies: along k as the words that are multiplied, none of them (and for tiles no step of
    /// k and no strip) cut; or across, if a word is one element.
    fn in_place(&self, a: &Part<'_>) -> bool {
        let (word, depth) = (self.unit.word(), a.ks.1 - a.ks.0);
        let whole = match self.unit {
            Unit::Vectors(_) => depth.is_multiple_of(word.depth()) && (a.along_k || word.depth() == 1),
            Unit::Tiles(..) => {
                a.along_k
                    && depth.is_multiple_of(word.depth() * pack::LANES)
                    && self.a.stride.is_multiple_of(word.depth())
                    && (a.span.1 - a.span.0).is_multiple_of(tiles::SIDE)
            }
        };
        whole && a.factor.data.words(0, word).is_some()
    }

    /// The strip of rows from `i` on, read in place; rows beyond the task's repeat its last, and no one reads their sums.
    fn strip_in_place(&self, i: usize, k: usize) -> Strip {
        let (across, step) = match self.a.layout {
            Layout::Normal => (self.a.stride, 1),
            Layout::Transposed => (1, self.a.stride),
        };
        let row = |r: usize| {
            let at = (i + r).min(self.rows.1 - 1) * across + k * step;
            self.a.data.words(at, self.unit.word()).expect("`in_place` has seen that A holds words")
        };
        Strip { rows: std::array::from_fn(row), step }
    }
}

impl Task<'_> {
    /// 32 rows from `i` on, read in place.
    fn rows_in_place(&self, i: usize, k: usize) -> tiles::Rows {
        let word = self.unit.word();
        let at = |r: usize| {
            let words = self.a.data.words((i + r) * self.a.stride + k, word);
            words.expect("`in_place` has seen that A holds words")
        };
        tiles::Rows { upper: at(0), lower: at(16), stride: self.a.stride / word.depth(), step: pack::LANES }
    }
}

/// A packed strip `[k][8]`.
fn packed_strip(words: &[u32]) -> Strip {
    Strip { rows: std::array::from_fn(|r| words[r..].as_ptr()), step: ROWS }
}

#[cfg(test)]
mod tests;
