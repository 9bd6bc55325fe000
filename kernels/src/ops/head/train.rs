//! The loss of the live rows and its gradients.

use super::parts::{NUMBERS, Row, measure};
use super::rows::gather;
use super::{CHUNK, Head, parts};
use crate::cpu::Cores;
use crate::gemm::{Elements, ElementsMut, Epilogue, Factor, Layout, Sink, gemm, product_into};
use crate::isa::{Isa, multiversion};
use crate::math::exp;
use crate::op::Rows;
use crate::ops::add_rows;
use crate::pieces::Pieces;
use crate::real::Real;

/// Rows of one task of joining.
const GRAIN: usize = 16;

/// What the forward pass works in.
pub struct Forward<'a, X> {
    /// `[n]`.
    pub numbers: &'a mut [u32],
    /// `[n]`.
    pub targets: &'a mut [u32],
    /// `[n, d]`.
    pub x: &'a mut [X],
    /// `[n]`.
    pub logits: &'a mut [f32],
    /// `[n, 2]`.
    pub joined: &'a mut [f32],
    /// `[n, parts, 4]`.
    pub parts: &'a mut [f32],
}

/// loss `[1]`, nll and lse `[..]` of x `[.., d]`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(
    cores: &Cores,
    head: Head<'_, X>,
    x: &[X],
    target: &[u32],
    weight: &[f32],
    loss: &mut [f32],
    nll: &mut [f32],
    lse: &mut [f32],
    scratch: Forward<'_, X>,
) where
    for<'a> Elements<'a>: From<&'a [X]>,
{
    let Forward { numbers, targets, x: gathered, logits, joined, parts: numbers_of_parts } = scratch;
    let (rows, x) = gather(cores, head.d, x, weight.iter().map(|&w| w != 0.0), numbers, gathered);
    let (targets, joined) = (&mut targets[..rows.len()], &mut joined[..2 * rows.len()]);
    targets.iter_mut().zip(rows).for_each(|(to, &n)| *to = target[n as usize]);
    // A target that no column has keeps this.
    logits.fill(f32::NEG_INFINITY);
    nll.fill(0.0);
    lse.fill(0.0);
    let mut sum = 0.0;
    if !rows.is_empty() {
        let stride = parts(head.v()) * NUMBERS;
        let used = &mut numbers_of_parts[..rows.len() * stride];
        let width = measure(cores, head, false, x, 1.0, Some((targets, &mut *logits)), used);
        let count = head.v().div_ceil(width) * NUMBERS;
        cores.pool.rows(joined, 2, GRAIN, |first, joined| {
            for (i, joined) in (first..).zip(joined.chunks_exact_mut(2)) {
                let row = Row::join(&used[i * stride..][..count], 1.0);
                let target = if Some(targets[i]) == head.forbid { f32::NEG_INFINITY } else { logits[i] };
                joined.copy_from_slice(&[(row.lse - f64::from(target)) as f32, row.lse as f32]);
            }
        });
        for (joined, &n) in joined.chunks_exact(2).zip(rows) {
            let n = n as usize;
            (nll[n], lse[n]) = (joined[0], joined[1]);
            sum += f64::from(weight[n]) * f64::from(nll[n]);
        }
    }
    loss[0] = sum as f32;
}

/// What the backward pass works in.
pub struct Backward<'a, X> {
    /// `[n]`.
    pub numbers: &'a mut [u32],
    /// `[n, d]`.
    pub x: &'a mut [X],
    /// `[n, CHUNK]` or fewer columns.
    pub chunk: &'a mut [X],
    /// `[n, d]`.
    pub dx: &'a mut [f32],
}

/// dx `[.., d]`, dw `[v, d]` and db `[v]` for dloss `[1]`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    head: Head<'_, X>,
    x: &[X],
    target: &[u32],
    weight: &[f32],
    lse: &[f32],
    dloss: &[f32],
    dx: &mut [X],
    dw: &mut [f32],
    mut db: Option<&mut [f32]>,
    scratch: Backward<'_, X>,
) where
    for<'a> Elements<'a>: From<&'a [X]>,
    for<'a> ElementsMut<'a>: From<&'a mut [X]>,
{
    let (v, d) = (head.v(), head.d);
    let Backward { numbers, x: gathered, chunk, dx: sums } = scratch;
    let (rows, x) = gather(cores, d, x, weight.iter().map(|&w| w != 0.0), numbers, gathered);
    dx.fill(X::store(0.0));
    if rows.is_empty() {
        dw.fill(0.0);
        db.iter_mut().for_each(|db| db.fill(0.0));
        return;
    }
    let (n, precision) = (rows.len(), Elements::from(head.w).precision());
    let sums = &mut sums[..n * d];
    for first in (0..v).step_by(CHUNK) {
        let cols = CHUNK.min(v - first);
        let (g, w) = (&mut chunk[..n * cols], &head.w[first * d..][..cols * d]);
        let sink = Gradient { head, first, rows, target, weight, lse, dloss: dloss[0], cols, g: Pieces::new(g) };
        let (by_row, by_column) = (Factor::new(x, d, Layout::Normal), Factor::new(w, d, Layout::Transposed));
        product_into(cores, precision, (n, cols, d), by_row, by_column, &sink);
        let g = &*g;
        let epilogue = Epilogue { accumulate: first > 0, ..Epilogue::default() };
        let (g_by_row, w) = (Factor::new(g, cols, Layout::Normal), Factor::new(w, d, Layout::Normal));
        gemm(cores, precision, (n, d, cols), g_by_row, w, ElementsMut::F32(&mut *sums), epilogue);
        let (g_by_column, x) = (Factor::new(g, cols, Layout::Transposed), Factor::new(x, d, Layout::Normal));
        let dw = ElementsMut::F32(&mut dw[first * d..][..cols * d]);
        gemm(cores, precision, (cols, d, n), g_by_column, x, dw, Epilogue::default());
        if let Some(db) = &mut db {
            add_rows::backward(cores, Rows::Batch, 1, cols, g, &mut db[first..first + cols]);
        }
    }
    for (sums, &n) in sums.chunks_exact(d).zip(rows) {
        dx[n as usize * d..][..d].iter_mut().zip(sums).for_each(|(dx, &sum)| *dx = X::store(sum));
    }
}

/// Turns a tile of logits into one of their gradient.
struct Gradient<'a, X> {
    head: Head<'a, X>,
    /// The chunk's first column, and its columns.
    first: usize,
    cols: usize,
    rows: &'a [u32],
    target: &'a [u32],
    weight: &'a [f32],
    lse: &'a [f32],
    dloss: f32,
    g: Pieces<'a, X>,
}

impl<X: Real> Sink for Gradient<'_, X> {
    fn tile(&self, isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize) {
        let column = |id: u32| (id as usize).checked_sub(self.first + j).filter(|&at| at < cols);
        let forbidden = self.head.forbid.and_then(column);
        for (r, row) in tile.chunks_exact_mut(width).enumerate().take(rows) {
            let (row, n) = (&mut row[..cols], self.rows[i + r] as usize);
            if let Some(bias) = self.head.b {
                row.iter_mut().zip(&bias[self.first + j..]).for_each(|(u, b)| *u += b);
            }
            let scale = self.dloss * self.weight[n];
            let target = column(self.target[n]).filter(|_| Some(self.target[n]) != self.head.forbid);
            let at = (i + r) * self.cols + j;
            // SAFETY: the row piece lies in the tile that the calling task owns alone.
            let g = unsafe { self.g.piece(at, at + cols) };
            gradient(isa, scale, self.lse[n], forbidden, target, row, g);
        }
    }
}

multiversion! {
    fn gradient<X: Real>(
        scale: f32,
        lse: f32,
        forbidden: Option<usize>,
        target: Option<usize>,
        row: &mut [f32],
        g: &mut [X],
    ) {
        row.iter_mut().for_each(|u| *u = scale * exp(*u - lse));
        if let Some(at) = forbidden {
            row[at] = 0.0;
        }
        if let Some(at) = target {
            row[at] -= scale;
        }
        g.iter_mut().zip(row).for_each(|(g, u)| *g = X::store(*u));
    }
}
