use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{map, sums};
use crate::op::Chunk;

/// Elements of one task.
const GRAIN: usize = 8192;
/// Elements of one sum in f32.
const PIECE: usize = 1024;

/// y `[b, n]` = m `[b, chunks]` at the chunk times x `[b, n]`.
pub fn forward(cores: &Cores, chunk: Chunk, batch: usize, x: &[f32], m: &[f32], y: &mut [f32]) {
    let n = x.len() / batch;
    cores.pool.rows(y, n, GRAIN.div_ceil(n), |first, y| {
        for (b, y) in (first..).zip(y.chunks_exact_mut(n)) {
            scale(cores.isa, m[b * chunk.of as usize + chunk.index as usize], &x[b * n..][..n], y);
        }
    });
}

multiversion! {
    fn scale(factor: f32, x: &[f32], y: &mut [f32]) {
        map(y, x, x, x, |x, _, _| factor * x);
    }
}

/// dm `[b, chunks]`: zero outside the chunk.
pub fn backward(cores: &Cores, chunk: Chunk, x: &[f32], dy: &[f32], dm: &mut [f32]) {
    let of = chunk.of as usize;
    let n = x.len() / (dm.len() / of);
    cores.pool.rows(dm, of, GRAIN.div_ceil(n), |first, dm| {
        for (b, dm) in (first..).zip(dm.chunks_exact_mut(of)) {
            dm.fill(0.0);
            dm[chunk.index as usize] = dot(cores.isa, &x[b * n..][..n], &dy[b * n..][..n]);
        }
    });
}

multiversion! {
    fn dot(x: &[f32], dy: &[f32]) -> f32 {
        let mut total = 0.0f64;
        for (x, dy) in x.chunks(PIECE).zip(dy.chunks(PIECE)) {
            let [piece] = sums(x, dy, dy, |x, dy, _| [x * dy]);
            total += f64::from(piece);
        }
        total as f32
    }
}
