use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::pool::Tile;
use crate::real::Real;

/// Elements of one task of copies.
const GRAIN: usize = 16_384;
/// Elements of one task of zeros: a few pages of streaming writes.
const ZEROS: usize = 1 << 18;
/// Columns of one task of additions: four cache lines of every row in f32.
const SPAN: usize = 64;

/// y [.., d] = table[ids].
///
/// # Panics
/// If an id is not a row of the table.
pub fn forward<X: Real>(cores: &Cores, d: usize, ids: &[u32], table: &[X], y: &mut [X]) {
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| {
        for (&id, y) in ids[first..].iter().zip(y.chunks_exact_mut(d)) {
            y.copy_from_slice(&table[id as usize * d..][..d]);
        }
    });
}

/// dtable [v, d]: the sum of dy [.., d] by id, in the order of the ids; ids beyond the table are left out.
pub fn backward<X: Real>(cores: &Cores, d: usize, ids: &[u32], dy: &[X], dtable: &mut [f32]) {
    let rows = dtable.len() / d;
    cores.pool.rows(dtable, 1, ZEROS, |_, zeros| zeros.fill(0.0));
    // Columns, not rows: however often one id occurs (a mask does), the tasks are equal, and each adds in order.
    cores.pool.tiles(d, SPAN, dtable, rows, &mut [(); 0], 0, |_, columns, mut dtable, _| {
        collect(cores.isa, d, ids, &dy[columns.start..], &mut dtable);
    });
}

multiversion! {
    fn collect<X: Real>(d: usize, ids: &[u32], dy: &[X], dtable: &mut Tile<'_, f32>) {
        for (&id, dy) in ids.iter().zip(dy.chunks(d)) {
            if (id as usize) < dtable.height() {
                dtable.row(id as usize).iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy.load());
            }
        }
    }
}
