use crate::columns::strips;
use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::Rows;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 16_384;
/// Columns that a task sums at the least: four cache lines of every row.
const COLUMNS: usize = 64;

/// y [b, l, d] = x [b, l, d] + r, r [p, d] from row `first` on, or [b, d].
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real, R: Real>(
    cores: &Cores,
    over: Rows,
    len: usize,
    first: usize,
    d: usize,
    x: &[X],
    r: &[R],
    y: &mut [X],
) {
    let period = r.len() / d;
    multiversion! {
        fn add<X: Real, R: Real>(x: &[X], r: &[R], y: &mut [X]) {
            for ((y, x), r) in y.iter_mut().zip(x).zip(r) {
                *y = X::store(x.load() + r.load());
            }
        }
    }
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |from, y| {
        for (n, y) in (from..).zip(y.chunks_exact_mut(d)) {
            let row = match over {
                Rows::Positions => (first + n % len) % period,
                Rows::Batch => n / len,
            };
            add(cores.isa, &x[n * d..(n + 1) * d], &r[row * d..(row + 1) * d], y);
        }
    });
}

/// dr [rows, d] = the sum of the rows of dy [b, l, d] that shared a row of r, in order.
pub fn backward<X: Real, R: Real>(cores: &Cores, over: Rows, rows: usize, d: usize, dy: &[X], dr: &mut [R]) {
    let count = dy.len() / d / rows;
    let step = if over == Rows::Positions { rows } else { 1 };
    // A task owns a run of elements of dr, so that one long row is shared out as well as many short ones.
    cores.pool.rows(dr, 1, (2 * GRAIN / count).next_multiple_of(COLUMNS), |mut at, mut dr| {
        while !dr.is_empty() {
            let (row, col) = (at / d, at % d);
            let (run, rest) = dr.split_at_mut((d - col).min(dr.len()));
            let first = row * if over == Rows::Positions { 1 } else { count };
            strips(cores.isa, &dy[first * d + col..], step * d, count, run);
            at += run.len();
            dr = rest;
        }
    });
}
