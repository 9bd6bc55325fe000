use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::AdamW;
use crate::ops::adamw::{State, piece};
use crate::pool::{ByRow, Tile};
use crate::real::Real;

/// Elements of one task of copies.
const GRAIN: usize = 16_384;
/// Elements of one task of zeros: a few pages of streaming writes.
const ZEROS: usize = 1 << 18;
/// Columns of one task of additions: four cache lines of every row in f32.
const SPAN: usize = 64;
/// Elements of one task of the optimizer, in whole rows.
const MOVED: usize = 1 << 16;
/// Elements of a gradient that are made at once.
const CHUNK: usize = 2048;
/// Behind the last position of an id.
const NONE: u32 = u32::MAX;

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

/// The AdamW step of a table whose gradient is the sum of dy [.., d] by id, in the order of the ids; ids beyond the table are left
/// out. `places` [rows of the table + ids] is scratch.
pub fn step<X: Real>(
    cores: &Cores,
    d: usize,
    ids: &[u32],
    dy: &[X],
    (adamw, hyper): (AdamW, &[f32]),
    State { param, m, v, ema, copy }: State<'_>,
    places: &mut [u32],
) {
    let rows = param.len() / d;
    let (first, next) = places.split_at_mut(rows);
    chain(ids, first, next);
    let (first, next) = (&*first, &*next);
    let moments = (ByRow::new(m, d), ByRow::new(v, d));
    let outputs = (ByRow::new(param, d), moments, ema.map(|x| ByRow::new(x, d)), copy.map(|x| ByRow::new(x, d)));
    cores.pool.cut(rows, MOVED.div_ceil(d), outputs, |row, (param, (m, v), mut ema, mut copy)| {
        let first = &first[row..row + param.len() / d];
        let mut gradient = [0.0; CHUNK];
        let mut begin = 0;
        while begin < first.len() {
            // One row that is named, or all up to the next such row.
            let named = first[begin] != NONE;
            let still = first[begin..].iter().take_while(|&&place| place == NONE).count();
            let end = begin + if named { 1 } else { still };
            for from in (begin * d..end * d).step_by(CHUNK) {
                let to = (from + CHUNK).min(end * d);
                let gradient = &mut gradient[..to - from];
                if named {
                    let positions = std::iter::successors(Some(first[begin]), |&n| next.get(n as usize).copied());
                    for n in positions.take_while(|&n| n != NONE) {
                        add(cores.isa, &dy[n as usize * d + from - begin * d..][..to - from], gradient);
                    }
                }
                let (ema, copy) = (ema.as_deref_mut(), copy.as_deref_mut());
                let (ema, copy) = (ema.map(|x| &mut x[from..to]), copy.map(|x| &mut x[from..to]));
                let (param, m, v) = (&mut param[from..to], &mut m[from..to], &mut v[from..to]);
                piece(cores.isa, adamw, 1.0, hyper, gradient, param, m, v, ema, copy);
                if named {
                    gradient.fill(0.0);
                }
            }
            begin = end;
        }
    });
}

/// By row of a table its first position among the ids, by position the next one with the same id, in rising order.
fn chain(ids: &[u32], first: &mut [u32], next: &mut [u32]) {
    first.fill(NONE);
    for ((n, &id), next) in ids.iter().enumerate().zip(next).rev() {
        if let Some(first) = first.get_mut(id as usize) {
            *next = std::mem::replace(first, n as u32);
        }
    }
}

multiversion! {
    fn add<X: Real>(dy: &[X], gradient: &mut [f32]) {
        gradient.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy.load());
    }
}
