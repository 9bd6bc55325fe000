//! The matrix product: C = op(A) op(B) in f32, blocked and packed, for three instruction levels.
//!
//! Panels of B ([k, NR] slices) are packed once per task, blocks of A are packed per `MR` rows, and the micro-kernel
//! keeps an MR x NR tile of C in registers. A task is a fixed tile of C over the whole of k, so the sum over k has one
//! order for any number of threads.

pub(crate) mod tiles;

use crate::isa::Isa;
use crate::pool::{Pieces, Pool};
use std::cell::RefCell;

/// Rows of the register tile.
const MR: usize = 8;
/// Columns of the register tile: three 512-bit vectors.
const NR: usize = 48;
/// Depth of a packed block: an A block of MR x KC and a B panel of KC x NR (72 KiB) stay in L1 and L2.
const KC: usize = 384;
/// Most columns of C that a task owns.
const TASK_COLS: usize = 4 * NR;
/// Most rows of C that a task owns.
const TASK_ROWS: usize = 192;
/// Fewer tasks than this are cut smaller, so that a few threads share a small product evenly.
const TASKS: usize = 8;

/// Rows and columns of a task's tile: a function of the shape alone, so that no bit depends on the machine.
fn tile(m: usize, n: usize) -> (usize, usize) {
    let (mut rows, mut cols) = (TASK_ROWS, TASK_COLS);
    while m.div_ceil(rows) * n.div_ceil(cols) < TASKS && (rows > 4 * MR || cols > NR) {
        if cols > NR && (n > NR || rows <= 4 * MR) && cols >= rows.min(n) {
            cols -= NR;
        } else if rows > 4 * MR {
            rows -= 2 * MR;
        } else {
            cols -= NR;
        }
    }
    (rows, cols)
}

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As written: A is [m, k], B is [k, n].
    Normal,
    /// Transposed: A is [k, m], B is [n, k].
    Transposed,
}

/// A factor of a product, row-major with `stride` elements between rows.
#[derive(Clone, Copy)]
pub struct Factor<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub stride: usize,
    /// How it lies in memory.
    pub layout: Layout,
}

impl<'a> Factor<'a> {
    /// A dense factor with rows of `cols` elements as they lie in memory.
    pub fn new(data: &'a [f32], cols: usize, layout: Layout) -> Self {
        Self { data, stride: cols, layout }
    }
}

/// What happens to a finished tile of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// C = A B.
    Write,
    /// C = C + A B.
    Add,
}

thread_local! {
    /// Packed panels: as large as they will ever be, so that a thread allocates once in its life.
    static PACKED: RefCell<Vec<f32>> = RefCell::new(vec![0.0; KC * TASK_COLS + TASK_ROWS * KC]);
}

/// C [m, n] (rows `n` apart) = or += A B over k; `finish(row, col, tile_row)` sees every row piece of a finished tile once
/// (bias, activation), while it is in cache.
///
/// # Panics
/// If a factor or C is shorter than its shape says.
#[expect(clippy::too_many_arguments, reason = "the product's own parameters")]
pub fn gemm(
    pool: &Pool,
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    c: &mut [f32],
    store: Store,
    finish: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
) {
    let extent = |f: &Factor<'_>, rows: usize, cols: usize| {
        let (rows, cols) = if f.layout == Layout::Normal { (rows, cols) } else { (cols, rows) };
        assert!(
            f.stride >= cols && f.data.len() >= (rows - 1) * f.stride + cols,
            "a factor is too short for {m}x{k}x{n}"
        );
    };
    extent(&a, m, k);
    extent(&b, k, n);
    assert_eq!(c.len(), m * n, "c has {} elements for {m}x{n}", c.len());
    let (tile_rows, tile_cols) = tile(m, n);
    let (row_tasks, col_tasks) = (m.div_ceil(tile_rows), n.div_ceil(tile_cols));
    let c = Pieces::new(c);
    pool.run(row_tasks * col_tasks, &|task| {
        let (i_0, j_0) = (task % row_tasks * tile_rows, task / row_tasks * tile_cols);
        let (i_1, j_1) = ((i_0 + tile_rows).min(m), (j_0 + tile_cols).min(n));
        PACKED.with_borrow_mut(|packed| {
            let (b_panels, a_blocks) = packed.split_at_mut(KC * TASK_COLS);
            let mut k_0 = 0;
            while k_0 < k {
                let k_1 = (k_0 + KC).min(k);
                pack(isa, &b, Side::B, (k_0, k_1), (j_0, j_1), b_panels);
                pack(isa, &a, Side::A, (k_0, k_1), (i_0, i_1), a_blocks);
                let add = k_0 > 0 || store == Store::Add;
                for i in (i_0..i_1).step_by(MR) {
                    for j in (j_0..j_1).step_by(NR) {
                        let a_block = &a_blocks[(i - i_0) * (k_1 - k_0)..][..MR * (k_1 - k_0)];
                        let b_panel = &b_panels[(j - j_0) * (k_1 - k_0)..][..NR * (k_1 - k_0)];
                        let (rows, cols) = ((i_1 - i).min(MR), (j_1 - j).min(NR));
                        let mut tile = [0.0f32; MR * NR];
                        micro(isa, k_1 - k_0, a_block, b_panel, &mut tile);
                        for r in 0..rows {
                            let from = (i + r) * n + j;
                            // SAFETY: the row piece lies in this task's own tile of C.
                            let row = unsafe { c.piece(from, from + cols) };
                            let tile = &tile[r * NR..r * NR + cols];
                            if add {
                                row.iter_mut().zip(tile).for_each(|(c, t)| *c += t);
                            } else {
                                row.copy_from_slice(tile);
                            }
                            if k_1 == k {
                                finish(i + r, j, row);
                            }
                        }
                    }
                }
                k_0 = k_1;
            }
        });
    });
}

/// A product with nothing to finish.
pub fn product(
    pool: &Pool,
    isa: Isa,
    shape: (usize, usize, usize),
    a: Factor<'_>,
    b: Factor<'_>,
    c: &mut [f32],
    store: Store,
) {
    gemm(pool, isa, shape, a, b, c, store, &|_, _, _| {});
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

/// Packs op(X)[k_0..k_1, from..to] into panels of MR (A) or NR (B) columns, k-major inside, zero beyond `to`.
fn pack(isa: Isa, x: &Factor<'_>, side: Side, ks: (usize, usize), span: (usize, usize), out: &mut [f32]) {
    // A [m, k] as written has k along its rows, like B transposed: "contiguous in k".
    let along_k = (side == Side::A) == (x.layout == Layout::Normal);
    match side {
        Side::A => pack_panels::<MR>(isa, x.data, x.stride, along_k, ks, span, out),
        Side::B => pack_panels::<NR>(isa, x.data, x.stride, along_k, ks, span, out),
    }
}

fn pack_panels<const W: usize>(
    isa: Isa,
    data: &[f32],
    stride: usize,
    along_k: bool,
    (k_0, k_1): (usize, usize),
    (from, to): (usize, usize),
    out: &mut [f32],
) {
    let depth = k_1 - k_0;
    for (panel, first) in out.chunks_mut(W * depth).zip((from..to).step_by(W)) {
        let width = (to - first).min(W);
        if width < W {
            panel.fill(0.0);
        }
        if along_k {
            for w in 0..width {
                let row = &data[(first + w) * stride + k_0..][..depth];
                scatter(isa, row, W, w, panel);
            }
        } else {
            for (kk, to) in panel.chunks_mut(W).enumerate() {
                to[..width].copy_from_slice(&data[(k_0 + kk) * stride + first..][..width]);
            }
        }
    }
}

crate::isa::multiversion! {
    fn scatter(row: &[f32], width: usize, at: usize, panel: &mut [f32]) {
        for (to, &x) in panel.chunks_exact_mut(width).zip(row) {
            to[at] = x;
        }
    }
}

/// tile [MR, NR] = A block (k-major, MR wide) times B panel (k-major, NR wide).
fn micro(isa: Isa, depth: usize, a: &[f32], b: &[f32], tile: &mut [f32; MR * NR]) {
    match isa {
        // SAFETY: `Isa::Avx512` exists only where `Isa::best` found AVX-512F.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => unsafe { micro_avx512(depth, a, b, tile) },
        // SAFETY: `Isa::Avx2` exists only where `Isa::best` found AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { micro_avx2(depth, a, b, tile) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx | Isa::Avx2 => micro_portable(depth, a, b, tile),
        Isa::Portable => micro_portable(depth, a, b, tile),
    }
}

fn micro_portable(depth: usize, a: &[f32], b: &[f32], tile: &mut [f32; MR * NR]) {
    for (a, b) in a.chunks_exact(MR).zip(b.chunks_exact(NR)).take(depth) {
        for (row, &a) in tile.chunks_exact_mut(NR).zip(a) {
            for (t, &b) in row.iter_mut().zip(b) {
                *t += a * b;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn micro_avx512(depth: usize, a: &[f32], b: &[f32], tile: &mut [f32; MR * NR]) {
    use std::arch::x86_64::*;
    let mut acc = [[_mm512_setzero_ps(); 3]; MR];
    for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0).take(depth) {
        let b = b.as_ptr();
        // SAFETY: b has NR = 48 elements.
        let b = unsafe { [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16)), _mm512_loadu_ps(b.add(32))] };
        for (acc, &a) in acc.iter_mut().zip(a) {
            let a = _mm512_set1_ps(a);
            for (acc, b) in acc.iter_mut().zip(b) {
                *acc = _mm512_fmadd_ps(a, b, *acc);
            }
        }
    }
    for (row, acc) in tile.as_chunks_mut::<NR>().0.iter_mut().zip(acc) {
        for (j, acc) in acc.into_iter().enumerate() {
            // SAFETY: a row has NR = 3 * 16 elements.
            unsafe { _mm512_storeu_ps(row.as_mut_ptr().add(16 * j), acc) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn micro_avx2(depth: usize, a: &[f32], b: &[f32], tile: &mut [f32; MR * NR]) {
    use std::arch::x86_64::*;
    // Sixteen registers hold a 4 x 24 corner: the tile is four such corners.
    for (half, columns) in [(0, 0), (0, 24), (4, 0), (4, 24)] {
        let mut acc = [[_mm256_setzero_ps(); 3]; 4];
        for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0).take(depth) {
            // SAFETY: b has NR = 48 elements and columns is 0 or 24.
            let b = unsafe {
                let b = b.as_ptr().add(columns);
                [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)), _mm256_loadu_ps(b.add(16))]
            };
            for (acc, &a) in acc.iter_mut().zip(&a[half..half + 4]) {
                let a = _mm256_set1_ps(a);
                for (acc, b) in acc.iter_mut().zip(b) {
                    *acc = _mm256_fmadd_ps(a, b, *acc);
                }
            }
        }
        for (row, acc) in tile.as_chunks_mut::<NR>().0[half..half + 4].iter_mut().zip(acc) {
            for (j, acc) in acc.into_iter().enumerate() {
                // SAFETY: columns + 24 <= NR.
                unsafe { _mm256_storeu_ps(row.as_mut_ptr().add(columns + 8 * j), acc) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_random::Philox;

    fn random(len: usize, row: u32) -> Vec<f32> {
        let mut rng = Philox::new(1, 0, 0, row);
        (0..len).map(|_| rng.normal() as f32).collect()
    }

    #[test]
    fn every_layout_size_and_level_equals_the_f64_product() {
        for isa in Isa::available() {
            let pool = Pool::new(2);
            for (m, n, k) in [(1, 1, 1), (8, 48, 16), (3, 5, 7), (9, 49, 385), (200, 100, 30), (17, 130, 400)] {
                let (a, b) = (random(m * k, 1), random(k * n, 2));
                for (la, lb) in [
                    (Layout::Normal, Layout::Normal),
                    (Layout::Normal, Layout::Transposed),
                    (Layout::Transposed, Layout::Normal),
                    (Layout::Transposed, Layout::Transposed),
                ] {
                    let (sa, sb) = (if la == Layout::Normal { k } else { m }, if lb == Layout::Normal { n } else { k });
                    let at =
                        |i: usize, p: usize| f64::from(if la == Layout::Normal { a[i * k + p] } else { a[p * m + i] });
                    let bt =
                        |p: usize, j: usize| f64::from(if lb == Layout::Normal { b[p * n + j] } else { b[j * k + p] });
                    let mut c = vec![f32::NAN; m * n];
                    let (fa, fb) = (Factor::new(&a, sa, la), Factor::new(&b, sb, lb));
                    product(&pool, isa, (m, n, k), fa, fb, &mut c, Store::Write);
                    product(&pool, isa, (m, n, k), fa, fb, &mut c, Store::Add);
                    for i in 0..m {
                        for j in 0..n {
                            let truth: f64 = 2.0 * (0..k).map(|p| at(i, p) * bt(p, j)).sum::<f64>();
                            // Rounding of a sum of k products grows with the root of k.
                            let bound = 1e-6 * (k as f64).sqrt() * 8.0;
                            assert!(
                                (f64::from(c[i * n + j]) - truth).abs() < bound,
                                "{isa:?} {la:?} {lb:?} {m}x{n}x{k}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (m, n, k) = (300, 200, 500);
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let run = |threads| {
            let mut c = vec![0.0; m * n];
            let (fa, fb) = (Factor::new(&a, k, Layout::Normal), Factor::new(&b, n, Layout::Normal));
            product(&Pool::new(threads), Isa::detect(), (m, n, k), fa, fb, &mut c, Store::Write);
            c
        };
        assert_eq!(run(1), run(3));
    }
}
