//! What a tile of logits leaves behind for each of its rows, and how the parts of a row are joined.

use super::Head;
use crate::cpu::Cores;
use crate::gemm::{Elements, Factor, Layout, Sink, product_into, product_of_few};
use crate::isa::{Isa, multiversion};
use crate::math::{exp, max};
use crate::ops::cross_entropy::sum_of;
use crate::pieces::Pieces;
use crate::real::Real;

/// Numbers of a part: the largest logit, the sum of exp(u - top), of (top - u) exp(u - top), and of exp((u - top) /
/// temperature).
pub(super) const NUMBERS: usize = 4;

/// The parts of every live row, and the logit at its target where it has one.
pub(super) struct Parts<'a> {
    /// `[rows, parts, NUMBERS]`.
    numbers: Pieces<'a, f32>,
    /// Parts that fit a row.
    parts: usize,
    bias: Option<&'a [f32]>,
    forbid: Option<u32>,
    inverse: f32,
    /// Each live row's target and where its logit goes.
    targets: Option<(&'a [u32], Pieces<'a, f32>)>,
}

/// Fills `numbers` with the parts of the live rows x; returns the columns of a part.
pub(super) fn measure<X: Real>(
    cores: &Cores,
    head: Head<'_, X>,
    few: bool,
    x: &[X],
    inverse: f32,
    targets: Option<(&[u32], &mut [f32])>,
    numbers: &mut [f32],
) -> usize
where
    for<'a> Elements<'a>: From<&'a [X]>,
{
    let (v, d) = (head.v(), head.d);
    let sink = Parts {
        numbers: Pieces::new(numbers),
        parts: super::parts(v),
        bias: head.b,
        forbid: head.forbid,
        inverse,
        targets: targets.map(|(targets, logits)| (targets, Pieces::new(logits))),
    };
    let (rows, w) = (Factor::new(x, d, Layout::Normal), Factor::new(head.w, d, Layout::Transposed));
    let product = if few { product_of_few } else { product_into };
    product(cores, Elements::from(head.w).precision(), (x.len() / d, v, d), rows, w, &sink)
}

impl Sink for Parts<'_> {
    fn tile(&self, isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize) {
        for (r, row) in tile.chunks_exact_mut(width).enumerate().take(rows) {
            let row = &mut row[..cols];
            if let Some(bias) = self.bias {
                row.iter_mut().zip(&bias[j..]).for_each(|(u, b)| *u += b);
            }
            if let Some((targets, logits)) = &self.targets
                && let Some(&logit) = (targets[i + r] as usize).checked_sub(j).and_then(|at| row.get(at))
            {
                // SAFETY: one tile alone holds a row's target.
                let place = unsafe { logits.piece(i + r, i + r + 1) };
                place[0] = logit;
            }
            if let Some(at) = self.forbid.and_then(|f| (f as usize).checked_sub(j)).filter(|&at| at < cols) {
                row[at] = f32::NEG_INFINITY;
            }
            let at = ((i + r) * self.parts + j / width) * NUMBERS;
            // SAFETY: this part of this row belongs to this tile alone.
            let numbers = unsafe { self.numbers.piece(at, at + NUMBERS) };
            part(isa, self.inverse, row, numbers);
        }
    }
}

multiversion! {
    fn part(inverse: f32, row: &[f32], numbers: &mut [f32]) {
        let top = max(row);
        if top == f32::NEG_INFINITY {
            // No column here, or none that is a number.
            let nothing = if row.iter().any(|u| u.is_nan()) { f32::NAN } else { 0.0 };
            numbers.copy_from_slice(&[top, nothing, nothing, nothing]);
            return;
        }
        let total = sum_of(row, |u| exp(u - top));
        // A column of no mass adds nothing, even at negative infinity.
        let moment = sum_of(row, |u| {
            let (e, below) = (exp(u - top), top - u);
            if e > 0.0 { e * below } else { e }
        });
        let tempered = if inverse == 1.0 { total } else { sum_of(row, |u| exp((u - top) * inverse)) };
        numbers.copy_from_slice(&[top, total, moment, tempered]);
    }
}

/// A row's parts joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The largest logit.
    pub(super) top: f32,
    /// log sum exp u.
    pub(super) lse: f64,
    /// Of softmax(u).
    pub(super) entropy: f64,
    /// Sum of exp((u - top) / temperature).
    pub(super) tempered: f64,
}

impl Row {
    pub(super) fn join(parts: &[f32], inverse: f32) -> Self {
        let parts = parts.as_chunks::<NUMBERS>().0;
        let top = parts.iter().fold(f32::NEG_INFINITY, |top, part| if part[0] > top { part[0] } else { top });
        let (mut total, mut moment, mut tempered) = (0.0, 0.0, 0.0);
        for part in parts {
            let factor = weight(part, top, 1.0);
            if factor != 0.0 && part[1] != 0.0 {
                let below = f64::from(top) - f64::from(part[0]);
                total += f64::from(part[1] * factor);
                moment += (f64::from(part[2]) + f64::from(part[1]) * below) * f64::from(factor);
            }
            tempered += if inverse == 1.0 { f64::from(part[1] * factor) } else { tempered_mass(part, top, inverse) };
        }
        Self { top, lse: f64::from(top) + total.ln(), entropy: total.ln() + moment / total, tempered }
    }
}

/// A part's share of [`Row::tempered`].
pub(super) fn tempered_mass(part: &[f32; NUMBERS], top: f32, inverse: f32) -> f64 {
    f64::from(part[3] * weight(part, top, inverse))
}

/// exp((part's top - top) / temperature); 1 for a part without a number, whose sums are 0 or NaN.
fn weight(part: &[f32; NUMBERS], top: f32, inverse: f32) -> f32 {
    if part[0] == f32::NEG_INFINITY { 1.0 } else { exp((part[0] - top) * inverse) }
}
