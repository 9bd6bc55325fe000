//! Sums of rows, column by column: gradients of what a batch shares.

pub(crate) mod cuda;

use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::real::Real;

/// Columns summed side by side: four vectors of the widest level.
const STRIP: usize = 64;

/// sums [width] = the rows x[0..], x[stride..], .. added in order, `count` of them; strips of columns are the tasks.
pub(crate) fn sum_rows<X: Real, R: Real>(cores: &Cores, x: &[X], stride: usize, count: usize, sums: &mut [R]) {
    cores.pool.rows(sums, 1, STRIP, |first, sums| strips(cores.isa, &x[first..], stride, count, sums));
}

multiversion! {
    /// [`sum_rows`] by the calling thread.
    pub(crate) fn strips<X: Real, R: Real>(x: &[X], stride: usize, count: usize, sums: &mut [R]) {
        for (i, sums) in sums.chunks_mut(STRIP).enumerate() {
            let rows = x[i * STRIP..].chunks(stride).take(count);
            let mut lanes = [0.0f32; STRIP];
            if sums.len() == STRIP {
                for row in rows {
                    let (row, _) = row.split_first_chunk::<STRIP>().expect("a row reaches to the end of its sums");
                    lanes.iter_mut().zip(row).for_each(|(lane, x)| *lane += x.load());
                }
            } else {
                for row in rows {
                    lanes.iter_mut().zip(&row[..sums.len()]).for_each(|(lane, x)| *lane += x.load());
                }
            }
            sums.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum = R::store(lane));
        }
    }
}
