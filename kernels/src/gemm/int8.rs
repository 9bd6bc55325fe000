//! The product of int8 matrices: sums exact in i32, scaled on the way out.
//!
//! ```text
//! u_nj = scale_n scale_j sum_k a_nk q_jk + b_j,   y = act(u)
//! ```
//!
//! The instruction multiplies signed bytes by unsigned ones, so q is packed as q + 128 and 128 times the sum of a's row is
//! taken off again. Every unit computes the same integers, and what follows has one order: no bit depends on the level.

use super::finish::Finish;
use super::pack::LIFT;
use super::{Batch, ElementsMut, Epilogue, Factor, Layout, Precision, Right, Sink, Unit, run_into};
use crate::cpu::Cores;
use crate::isa::{Isa, multiversion};
use crate::op::Activation;

/// Most elements that are summed over: 2^16 products of 127 and 255 fit an i32.
pub const DEPTH: usize = 1 << 16;

/// A matrix quantised by rows: row r is about `scale_r` times its values.
#[derive(Clone, Copy)]
pub struct Quantised<'a> {
    /// `[rows, k]`, within +-127.
    pub values: &'a [i8],
    /// `[rows, 2]`: the scale of each row and the sum of its values.
    pub rows: &'a [f32],
}

/// y `[m, n]` = act(x q^T + b) for x `[m, k]`, q `[n, k]` with `scales` `[n]`, b `[n]`: all three twice as long for a gate.
///
/// # Panics
/// If an operand has another length than the shape says, or k is beyond [`DEPTH`].
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn linear(
    cores: &Cores,
    (m, n, k): (usize, usize, usize),
    x: Quantised<'_>,
    q: &[i8],
    scales: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    y: ElementsMut<'_>,
) {
    let columns = activation.halves() * n;
    let lens = (x.rows.len(), scales.len(), bias.map_or(columns, <[f32]>::len), y.len());
    assert_eq!(lens, (2 * m, columns, columns, m * n), "rows, scales, bias and output of a {m} x {n} product");
    assert!(k <= DEPTH, "sums of {k} products of bytes may not fit 32 bits");
    let finish = Epilogue { bias, activation, ..Epilogue::default() }.into_sink(m, n, y);
    let (a, b) = (Factor::new(x.values, k, Layout::Normal), Factor::new(q, k, Layout::Transposed));
    let sink = Scaled { rows: x.rows.as_chunks().0, scales, finish };
    let unit = Unit::choose(cores.isa, Precision::Int8);
    run_into(cores, unit, Batch::ONE, (m, n, k), a, Right::Plain(b), &sink);
}

/// Turns a tile of integers into numbers, then finishes it like any other.
struct Scaled<'a> {
    rows: &'a [[f32; 2]],
    scales: &'a [f32],
    finish: Finish<'a>,
}

impl Sink for Scaled<'_> {
    fn tile(&self, isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize) {
        self.turn(isa, i, &self.scales[j..j + cols], &mut tile[..rows * width], width);
        self.finish.tile(isa, (i, j), rows, cols, tile, width);
    }

    fn gated(&self) -> bool {
        self.finish.gated()
    }

    fn pair(&self, isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, [a, b]: [&mut [f32]; 2], width: usize) {
        self.turn(isa, i, &self.scales[j..j + cols], &mut a[..rows * width], width);
        self.turn(isa, i, &self.scales[self.finish.n + j..][..cols], &mut b[..rows * width], width);
        self.finish.pair(isa, (i, j), rows, cols, [a, b], width);
    }
}

impl Scaled<'_> {
    /// Turns integers into numbers: `scales` are those of the tile's columns.
    fn turn(&self, isa: Isa, i: usize, scales: &[f32], tile: &mut [f32], width: usize) {
        for ([scale, sum], row) in self.rows[i..].iter().zip(tile.chunks_exact_mut(width)) {
            // A sum of 2^16 bytes is an integer that f32 holds.
            scaled(isa, *scale, LIFT * *sum as i32, scales, &mut row[..scales.len()]);
        }
    }
}

multiversion! {
    fn scaled(scale: f32, lifted: i32, scales: &[f32], row: &mut [f32]) {
        for (y, s) in row.iter_mut().zip(scales) {
            *y = (y.to_bits() as i32).wrapping_sub(lifted) as f32 * s * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Elements;
    use super::super::tests::{LAYOUTS, SIZES, cores, stride, units_of_bytes};
    use super::*;
    use galatea_random::Philox;
    use std::sync::Mutex;

    /// Bytes over the whole range, the ends among them.
    fn bytes(len: usize, row: u32) -> Vec<i8> {
        let mut rng = Philox::new(1, 0, 0, row);
        (0..len).map(|i| if i % 13 == 0 { 127 } else { rng.below(255) as i8 }).map(|x| x.max(-127)).collect()
    }

    /// Keeps the integers of every tile.
    struct Integers(Mutex<Vec<i32>>, usize);

    impl Sink for Integers {
        fn tile(&self, _isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize) {
            let mut all = self.0.lock().expect("no test thread panicked");
            for (r, row) in tile.chunks_exact(width).enumerate().take(rows) {
                let to = &mut all[(i + r) * self.1 + j..][..cols];
                to.iter_mut().zip(row).for_each(|(to, x)| *to = x.to_bits() as i32);
            }
        }
    }

    #[test]
    fn every_sum_is_exact_in_every_layout_and_unit() {
        for ((m, n, k), (la, lb)) in SIZES.into_iter().flat_map(|shape| LAYOUTS.map(|layouts| (shape, layouts))) {
            let (a, b) = (bytes(m * k, 1), bytes(n * k, 2));
            let at = |i: usize, p: usize| i64::from(if la == Layout::Normal { a[i * k + p] } else { a[p * m + i] });
            let bt = |p: usize, j: usize| i64::from(if lb == Layout::Normal { b[p * n + j] } else { b[j * k + p] });
            let cell = |i: usize, j: usize| (0..k).map(|p| at(i, p) * (bt(p, j) + i64::from(LIFT))).sum::<i64>();
            let truth: Vec<i64> = (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| cell(i, j)).collect();
            for (isa, unit) in units_of_bytes() {
                let sink = Integers(Mutex::new(vec![i32::MIN; m * n]), n);
                let (a, b) = (Factor::new(&a[..], stride(la, m, k), la), Factor::new(&b[..], stride(lb, k, n), lb));
                run_into(&cores(2, isa), unit, Batch::ONE, (m, n, k), a, Right::Plain(b), &sink);
                let found = sink.0.into_inner().expect("no test thread panicked");
                assert!(found.iter().map(|&x| i64::from(x)).eq(truth.iter().copied()), "{isa:?} {unit:?} {m}x{n}x{k}");
            }
        }
    }

    #[test]
    fn the_deepest_sum_of_the_largest_bytes_fits() {
        let (a, b) = (vec![-127i8; DEPTH], vec![127i8; 2 * DEPTH]);
        for isa in Isa::available() {
            let x = Quantised { values: &a, rows: &[1.0, -127.0 * DEPTH as f32] };
            let mut y = [0.0; 2];
            linear(&cores(1, isa), (1, 2, DEPTH), x, &b, &[1.0, 0.5], None, Activation::None, (&mut y[..]).into());
            let sum = (-127 * 127 * DEPTH as i64) as f32;
            assert_eq!(y, [sum, 0.5 * sum], "{isa:?}");
        }
    }

    #[test]
    #[should_panic(expected = "int8 is multiplied by int8 alone")]
    fn int8_times_f32_is_refused() {
        let (a, b) = (Factor::new(&[1i8][..], 1, Layout::Normal), Factor::new(&[1.0f32][..], 1, Layout::Normal));
        let unit = Unit::choose(Isa::Portable, Elements::I8(&[]).precision());
        run_into(
            &cores(1, Isa::Portable),
            unit,
            Batch::ONE,
            (1, 1, 1),
            a,
            Right::Plain(b),
            &Integers(Mutex::new(vec![0]), 1),
        );
    }
}
