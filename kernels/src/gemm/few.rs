//! Products of few rows: x w^T by dot products.
//!
//! A panel is packed so that many rows share it. Few rows read every weight for a handful of multiply-adds and are bound by
//! memory, where weights as they lie, row after row, are the fastest to read: each is multiplied on the way, nothing is written.
//!
//! The sum over k has another order than that of tiles, so this is no choice that a product makes by its number of rows: a
//! text would depend on how many are written beside it. The op that has one position of every text asks for it.

use super::{Elements, Factor, Layout, Precision, Right, Sink};
use crate::cpu::Cores;
use crate::isa::{Isa, multiversion};
use crate::real::Real;

/// Columns of a tile of C that the sink is given, and its most rows.
pub(super) const COLS: usize = 48;
const ROWS: usize = 8;
/// Lanes of a sum.
const LANES: usize = 16;

/// Whether this path computes a product: x and w along k, of the type that is multiplied.
pub(super) fn fits(precision: Precision, a: &Factor<'_>, b: &Right<'_>) -> bool {
    let Right::Plain(b) = b else { return false };
    let types = matches!(
        (precision, a.data, b.data),
        (Precision::F32, Elements::F32(_), Elements::F32(_)) | (Precision::Bf16, Elements::Bf16(_), Elements::Bf16(_))
    );
    types && a.layout == Layout::Normal && b.layout == Layout::Transposed
}

/// Hands the tiles of x w^T to the sink; of a gated product the rows j and n + j of w for the column j.
pub(super) fn run(cores: &Cores, (m, n, k): (usize, usize, usize), x: &Factor<'_>, w: &Factor<'_>, sink: &dyn Sink) {
    let halves = if sink.gated() { 2 } else { 1 };
    x.check(m, k);
    w.check(k, halves * n);
    cores.pool.run(n.div_ceil(COLS), &|task| {
        let j = task * COLS;
        let cols = COLS.min(n - j);
        for i in (0..m).step_by(ROWS) {
            let rows = ROWS.min(m - i);
            let mut tiles = [[0.0; ROWS * COLS]; 2];
            for (half, tile) in tiles.iter_mut().enumerate().take(halves) {
                products(cores.isa, (i, rows), (half * n + j, cols), k, x, w, tile);
            }
            let [tile, other] = &mut tiles;
            if halves == 1 {
                sink.tile(cores.isa, (i, j), rows, cols, tile, COLS);
            } else {
                sink.pair(cores.isa, (i, j), rows, cols, [tile, other], COLS);
            }
        }
    });
}

/// The products of `rows` rows of x from `i` on and `cols` rows of w from `j` on.
fn products(
    isa: Isa,
    (i, rows): (usize, usize),
    (j, cols): (usize, usize),
    k: usize,
    x: &Factor<'_>,
    w: &Factor<'_>,
    tile: &mut [f32; ROWS * COLS],
) {
    for c in 0..cols {
        let (from_x, from_w) = (i * x.stride, (j + c) * w.stride);
        let sums = match (x.data, w.data) {
            (Elements::F32(x_data), Elements::F32(w_data)) => {
                dots(isa, &x_data[from_x..], x.stride, rows, &w_data[from_w..][..k])
            }
            (Elements::Bf16(x_data), Elements::Bf16(w_data)) => {
                dots(isa, &x_data[from_x..], x.stride, rows, &w_data[from_w..][..k])
            }
            (Elements::F32(_) | Elements::Bf16(_) | Elements::I8(_), _) => {
                unreachable!("`fits` admits factors of one type")
            }
        };
        (0..rows).for_each(|r| tile[r * COLS + c] = sums[r]);
    }
}

/// x_r . w for `rows` rows of x: a row at a time after the first, when w is in cache.
fn dots<X: Real>(isa: Isa, x: &[X], stride: usize, rows: usize, w: &[X]) -> [f32; ROWS] {
    let mut sums = [0.0; ROWS];
    for (r, sum) in sums.iter_mut().enumerate().take(rows) {
        *sum = dot(isa, &x[r * stride..][..w.len()], w);
    }
    sums
}

multiversion! {
    /// Four sums of sixteen lanes, so that one addition need not wait for the last.
    fn dot<X: Real>(x: &[X], w: &[X]) -> f32 {
        let mut lanes = [[0.0f32; LANES]; 4];
        let (x_blocks, x_rest) = x.as_chunks::<{ 4 * LANES }>();
        let (w_blocks, w_rest) = w.as_chunks::<{ 4 * LANES }>();
        for (x, w) in x_blocks.iter().zip(w_blocks) {
            for (lanes, (x, w)) in lanes.iter_mut().zip(x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0)) {
                for (lane, (x, w)) in lanes.iter_mut().zip(x.iter().zip(w)) {
                    *lane += x.load() * w.load();
                }
            }
        }
        let [a, b, c, d] = lanes;
        let total: f32 = (0..LANES).map(|lane| (a[lane] + b[lane]) + (c[lane] + d[lane])).sum();
        x_rest.iter().zip(w_rest).fold(total, |sum, (x, w)| sum + x.load() * w.load())
    }
}
