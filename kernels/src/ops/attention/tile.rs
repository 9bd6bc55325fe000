//! Products and softmaxes of tiles of 64 x 64, with queries along the lanes of a vector.
//!
//! Scores are kept as [keys, queries]: a key's row is broadcast element by element against a turned block of queries,
//! so keys and values are read where they lie and only queries are ever transposed; and the maximum, the exponentials
//! and the sum of a softmax run over keys lane by lane, without a sum across a vector.

use crate::isa::{Isa, multiversion};
use crate::math::{exp, sum};
use std::array::from_fn;

/// Rows and columns of a tile.
pub(super) const SIDE: usize = 64;
/// Columns that a register tile spans.
pub(super) const LANES: usize = 16;

/// Scores, probabilities or a piece of an output: 16 KiB.
pub(super) type Tile = [[f32; SIDE]; SIDE];
/// One number a query.
pub(super) type PerQuery = [f32; SIDE];

/// Rows of a matrix in memory, `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> From<&'a Tile> for Matrix<'a> {
    fn from(tile: &'a Tile) -> Self {
        Self { data: tile.as_flattened(), stride: SIDE }
    }
}

multiversion! {
    /// out [rows, cols] = W X, or out + W X if `add`, for W [rows, depth], X [depth, cols]. `level` is the `isa` again:
    /// it chooses the register tile.
    pub(super) fn product(
        level: Isa,
        rows: usize,
        depth: usize,
        cols: usize,
        w: Matrix<'_>,
        x: Matrix<'_>,
        add: bool,
        out: &mut Tile,
    ) {
        match level {
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => by_rows::<true, true>(rows, depth, cols, w, x, add, out),
            Isa::Avx2 => by_rows::<false, true>(rows, depth, cols, w, x, add, out),
            Isa::Portable => by_rows::<false, false>(rows, depth, cols, w, x, add, out),
        }
    }
}

multiversion! {
    /// out [rows, cols] = W^T X for W [depth, rows], X [depth, cols].
    pub(super) fn product_turned(
        level: Isa,
        rows: usize,
        depth: usize,
        cols: usize,
        w: &Tile,
        x: Matrix<'_>,
        out: &mut Tile,
    ) {
        match level {
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => by_columns::<true, true>(rows, depth, cols, w, x, out),
            Isa::Avx2 => by_columns::<false, true>(rows, depth, cols, w, x, out),
            Isa::Portable => by_columns::<false, false>(rows, depth, cols, w, x, out),
        }
    }
}

multiversion! {
    /// out [cols, rows] = the transpose of `scale` x; the lanes up to the next multiple of LANES repeat the last row.
    pub(super) fn turn(rows: usize, cols: usize, x: Matrix<'_>, scale: f32, out: &mut Tile) {
        for i in (0..rows).step_by(LANES) {
            let rows: [&[f32]; LANES] = from_fn(|lane| &x.data[(i + lane).min(rows - 1) * x.stride..][..cols]);
            for (c, out) in out.iter_mut().enumerate().take(cols) {
                let lanes: [f32; LANES] = from_fn(|lane| rows[lane][c] * scale);
                out[i..i + LANES].copy_from_slice(&lanes);
            }
        }
    }
}

multiversion! {
    /// s [keys, lanes] = -inf where key `first` + row is not below the query's reach.
    pub(super) fn hide(s: &mut Tile, keys: usize, first: usize, reach: &[u32; SIDE]) {
        for (j, s) in s.iter_mut().enumerate().take(keys) {
            let key = (first + j) as u32;
            for (s, &reach) in s.iter_mut().zip(reach) {
                *s = if key < reach { *s } else { f32::NEG_INFINITY };
            }
        }
    }
}

/// The softmax of a block of queries, as far as its keys have been seen.
pub(super) struct Softmax {
    /// The largest score.
    pub(super) largest: PerQuery,
    /// The sum of exp(score - largest).
    pub(super) total: PerQuery,
    /// What the last step multiplied earlier sums by.
    pub(super) keep: PerQuery,
}

impl Softmax {
    pub(super) fn new() -> Self {
        Self { largest: [f32::NEG_INFINITY; SIDE], total: [0.0; SIDE], keep: [0.0; SIDE] }
    }
}

multiversion! {
    /// s [keys, lanes] = exp(s - largest), the new largest; the sums and what they are worth follow.
    pub(super) fn soften(s: &mut Tile, keys: usize, lanes: usize, softmax: &mut Softmax) {
        let Softmax { largest, total, keep } = softmax;
        let old = *largest;
        for s in &s[..keys] {
            for (top, &s) in largest[..lanes].iter_mut().zip(s) {
                *top = if s > *top { s } else { *top };
            }
        }
        // Where nothing is visible yet: exp(-inf - 0) = 0.
        let mut base = *largest;
        base.iter_mut().for_each(|base| *base = if *base == f32::NEG_INFINITY { 0.0 } else { *base });
        for (l, keep) in keep[..lanes].iter_mut().enumerate() {
            *keep = exp(old[l] - base[l]);
            total[l] *= *keep;
        }
        for s in &mut s[..keys] {
            for ((s, base), total) in s[..lanes].iter_mut().zip(&base).zip(&mut *total) {
                *s = exp(*s - base);
                *total += *s;
            }
        }
    }
}

multiversion! {
    /// x_r . y_r of two blocks of rows of `width`.
    pub(super) fn dots(rows: usize, width: usize, x: Matrix<'_>, y: Matrix<'_>) -> PerQuery {
        let mut dots = [0.0; SIDE];
        for (r, dot) in dots.iter_mut().enumerate().take(rows) {
            let (x, y) = (&x.data[r * x.stride..][..width], &y.data[r * y.stride..][..width]);
            *dot = sum(width, |c| x[c] * y[c]);
        }
        dots
    }
}

multiversion! {
    /// s [keys, lanes] = exp(s - lse): the probabilities again.
    pub(super) fn probabilities(s: &mut Tile, keys: usize, lanes: usize, lse: &PerQuery) {
        for s in &mut s[..keys] {
            for (s, lse) in s[..lanes].iter_mut().zip(lse) {
                *s = exp(*s - lse);
            }
        }
    }
}

multiversion! {
    /// ds = p (dp - delta) scale, over dp: the gradient of the scores.
    pub(super) fn score_gradient(p: &Tile, dp: &mut Tile, keys: usize, lanes: usize, delta: &PerQuery, scale: f32) {
        for (p, dp) in p.iter().zip(dp).take(keys) {
            for ((dp, p), delta) in dp[..lanes].iter_mut().zip(p).zip(delta) {
                *dp = p * (*dp - delta) * scale;
            }
        }
    }
}

multiversion! {
    /// y = (keep y + fresh) scale, where there is something to keep.
    pub(super) fn settle(y: &mut [f32], keep: Option<f32>, fresh: &[f32], scale: f32) {
        match keep {
            Some(keep) => y.iter_mut().zip(fresh).for_each(|(y, fresh)| *y = (*y * keep + fresh) * scale),
            None => y.iter_mut().zip(fresh).for_each(|(y, fresh)| *y = fresh * scale),
        }
    }
}

/// Sums of QUAD rows of LANES columns, kept in registers. A register tile is one of them, or two (`PAIR`) where there
/// are registers enough: a single array of that size is no longer unrolled.
type Quad = [[f32; LANES]; QUAD];
const QUAD: usize = 4;

/// The weights of QUAD rows of an output.
trait Weights {
    /// Those of row `m` of X.
    fn at(&self, m: usize) -> [f32; QUAD];
}

/// Rows of W, for W X.
struct Rows<'a>([&'a [f32]; QUAD]);

impl Weights for Rows<'_> {
    #[inline(always)]
    fn at(&self, m: usize) -> [f32; QUAD] {
        [self.0[0][m], self.0[1][m], self.0[2][m], self.0[3][m]]
    }
}

/// Columns of W from one on, for W^T X.
struct Columns<'a>(&'a Tile, usize);

impl Weights for Columns<'_> {
    #[inline(always)]
    fn at(&self, m: usize) -> [f32; QUAD] {
        *self.0[m][self.1..].first_chunk().expect("a quad of rows lies within the tile")
    }
}

/// sums += weights times `depth` rows of X from column `col` on, of which `width` are there.
///
/// No closures here: one that is not inlined loses the instruction level, and with it the fused multiply-add.
#[inline(always)]
fn strip<const PAIR: bool, const FUSED: bool>(
    depth: usize,
    x: Matrix<'_>,
    col: usize,
    width: usize,
    weights: &[impl Weights; 2],
    [mut a, mut b]: [Quad; 2],
) -> [Quad; 2] {
    if width >= LANES {
        for m in 0..depth {
            let row: &[f32; LANES] = x.data[m * x.stride + col..].first_chunk().expect("LANES columns");
            a = step::<FUSED>(a, weights[0].at(m), row);
            if PAIR {
                b = step::<FUSED>(b, weights[1].at(m), row);
            }
        }
    } else {
        for m in 0..depth {
            let mut row = [0.0; LANES];
            row[..width].copy_from_slice(&x.data[m * x.stride + col..][..width]);
            a = step::<FUSED>(a, weights[0].at(m), &row);
            if PAIR {
                b = step::<FUSED>(b, weights[1].at(m), &row);
            }
        }
    }
    [a, b]
}

#[inline(always)]
fn step<const FUSED: bool>(mut sums: Quad, weights: [f32; QUAD], x: &[f32; LANES]) -> Quad {
    for r in 0..QUAD {
        for l in 0..LANES {
            // In one rounding where the level has such an instruction; elsewhere it would be a call.
            sums[r][l] = if FUSED { weights[r].mul_add(x[l], sums[r][l]) } else { weights[r] * x[l] + sums[r][l] };
        }
    }
    sums
}

#[inline(always)]
fn by_rows<const PAIR: bool, const FUSED: bool>(
    rows: usize,
    depth: usize,
    cols: usize,
    w: Matrix<'_>,
    x: Matrix<'_>,
    add: bool,
    out: &mut Tile,
) {
    for i in (0..rows).step_by(if PAIR { 2 * QUAD } else { QUAD }) {
        // Beyond the last row it is repeated, and not stored.
        let quad = |i: usize| Rows(from_fn(|r| &w.data[(i + r).min(rows - 1) * w.stride..][..depth]));
        let weights = [quad(i), quad(i + QUAD)];
        for c in (0..cols).step_by(LANES) {
            let mut sums = [[[0.0; LANES]; QUAD]; 2];
            if add {
                for (sums, out) in sums.as_flattened_mut().iter_mut().zip(&out[i..rows]) {
                    sums.copy_from_slice(&out[c..c + LANES]);
                }
            }
            let sums = strip::<PAIR, FUSED>(depth, x, c, cols - c, &weights, sums);
            store::<PAIR>(&sums, c, &mut out[i..rows]);
        }
    }
}

#[inline(always)]
fn by_columns<const PAIR: bool, const FUSED: bool>(
    rows: usize,
    depth: usize,
    cols: usize,
    w: &Tile,
    x: Matrix<'_>,
    out: &mut Tile,
) {
    for i in (0..rows).step_by(if PAIR { 2 * QUAD } else { QUAD }) {
        let weights = [Columns(w, i), Columns(w, i + QUAD)];
        for c in (0..cols).step_by(LANES) {
            let sums = strip::<PAIR, FUSED>(depth, x, c, cols - c, &weights, [[[0.0; LANES]; QUAD]; 2]);
            store::<PAIR>(&sums, c, &mut out[i..rows]);
        }
    }
}

/// The rows of `sums` that exist, from column `col` on.
#[inline(always)]
fn store<const PAIR: bool>(sums: &[Quad; 2], col: usize, out: &mut [[f32; SIDE]]) {
    let sums = &sums.as_flattened()[..if PAIR { 2 * QUAD } else { QUAD }];
    for (out, sums) in out.iter_mut().zip(sums) {
        out[col..col + LANES].copy_from_slice(sums);
    }
}
