//! The rows that count, gathered.

use crate::cpu::Cores;
use crate::real::Real;

/// Rows of one task.
const GRAIN: usize = 64;

/// The live rows of x in order, copied to the front of `gathered`; their numbers, at the front of `numbers`.
pub(super) fn gather<'a, X: Real>(
    cores: &Cores,
    d: usize,
    x: &[X],
    live: impl Iterator<Item = bool>,
    numbers: &'a mut [u32],
    gathered: &'a mut [X],
) -> (&'a [u32], &'a [X]) {
    let mut count = 0;
    for (n, _) in live.enumerate().filter(|(_, live)| *live) {
        numbers[count] = n as u32;
        count += 1;
    }
    let (numbers, gathered) = (&numbers[..count], &mut gathered[..count * d]);
    cores.pool.rows(gathered, d, GRAIN, |first, rows| {
        for (row, &n) in rows.chunks_exact_mut(d).zip(&numbers[first..]) {
            row.copy_from_slice(&x[n as usize * d..][..d]);
        }
    });
    (numbers, gathered)
}
