//! CPU kernels.

use crate::cpu::Cores;

/// y = table[ids].
///
/// # Panics
/// If an id is not a row of the table.
pub fn forward(cores: &Cores, d: usize, ids: &[u32], table: &[f32], y: &mut [f32]) {
    cores.pool.rows(y, d, (16_384 / d).max(1), |first, y| {
        for (id, y) in ids[first..].iter().zip(y.chunks_exact_mut(d)) {
            y.copy_from_slice(&table[*id as usize * d..][..d]);
        }
    });
}

/// dtable[v] = sum of dy where ids = v, in row order; rows that no id names are zero.
pub fn backward(cores: &Cores, d: usize, ids: &[u32], dy: &[f32], dtable: &mut [f32]) {
    // A task owns some rows of the table and reads all ids: no two tasks add to one row.
    let grain = (dtable.len() / d).div_ceil(8).max(16);
    cores.pool.rows(dtable, d, grain, |first, dtable| {
        dtable.fill(0.0);
        let rows = dtable.len() / d;
        for (id, dy) in ids.iter().zip(dy.chunks_exact(d)) {
            let row = (*id as usize).wrapping_sub(first);
            if row < rows {
                dtable[row * d..(row + 1) * d].iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
        }
    });
}
