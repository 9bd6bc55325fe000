use crate::cpu::Cores;
use crate::isa::multiversion;
use galatea_random::{block, unit_f32};

/// Elements of one task.
const GRAIN: usize = 8192;

/// y = x keep / (1 - p) for x with rows of `d`; on dy it is the backward pass.
pub fn forward(cores: &Cores, p: f32, stream: u32, d: usize, x: &[f32], rng: &[u32], y: &mut [f32]) {
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| {
        for (i, y) in y.chunks_mut(d).enumerate() {
            let row = first + i;
            drop_row(cores.isa, p, seed, stream, rng[2], row as u32, &x[row * d..][..d], y);
        }
    });
}

multiversion! {
    fn drop_row(p: f32, seed: u64, stream: u32, step: u32, row: u32, x: &[f32], y: &mut [f32]) {
        let scale = 1.0 / (1.0 - p);
        let keep = |word: u32, x: f32| if unit_f32(word) >= p { x * scale } else { 0.0 };
        let ((x, x_tail), (y, y_tail)) = (x.as_chunks::<4>(), y.as_chunks_mut::<4>());
        for (i, (x, y)) in x.iter().zip(y).enumerate() {
            let words = block(seed, stream, step, row, i as u32);
            for j in 0..4 {
                y[j] = keep(words[j], x[j]);
            }
        }
        let words = block(seed, stream, step, row, x.len() as u32);
        for ((y, &x), word) in y_tail.iter_mut().zip(x_tail).zip(words) {
            *y = keep(word, x);
        }
    }
}
