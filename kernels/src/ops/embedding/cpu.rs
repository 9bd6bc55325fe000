use crate::cpu::Cores;
use crate::isa::multiversion;

/// Elements of one task of copies.
const GRAIN: usize = 16_384;
/// Tasks that the table's gradient is cut into: each reads all ids, so they are few.
const PARTS: usize = 16;

/// y [.., d] = table[ids].
///
/// # Panics
/// If an id is not a row of the table.
pub fn forward(cores: &Cores, d: usize, ids: &[u32], table: &[f32], y: &mut [f32]) {
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| {
        for (&id, y) in ids[first..].iter().zip(y.chunks_exact_mut(d)) {
            y.copy_from_slice(&table[id as usize * d..][..d]);
        }
    });
}

/// dtable [v, d]: the sum of dy [.., d] by id, in the order of the ids; ids beyond the table are left out.
pub fn backward(cores: &Cores, d: usize, ids: &[u32], dy: &[f32], dtable: &mut [f32]) {
    let grain = (dtable.len() / d).div_ceil(PARTS);
    cores.pool.rows(dtable, d, grain, |first, dtable| collect(cores.isa, first, d, ids, dy, dtable));
}

multiversion! {
    fn collect(first: usize, d: usize, ids: &[u32], dy: &[f32], dtable: &mut [f32]) {
        dtable.fill(0.0);
        let rows = dtable.len() / d;
        for (&id, dy) in ids.iter().zip(dy.chunks_exact(d)) {
            let row = (id as usize).wrapping_sub(first);
            if row < rows {
                dtable[row * d..(row + 1) * d].iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
        }
    }
}
