use crate::cpu::Cores;
use crate::isa::multiversion;
use galatea_random::{block, unit_f32};

/// Elements of one task.
const GRAIN: usize = 8192;
/// Blocks drawn together.
const LANES: usize = 16;

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
        for (i, (x, y)) in x.chunks(4 * LANES).zip(y.chunks_mut(4 * LANES)).enumerate() {
            // Sixteen blocks side by side: the rounds vectorise across them.
            let mut words = [[0; 4]; LANES];
            for (lane, words) in words.iter_mut().enumerate() {
                *words = block(seed, stream, step, row, (i * LANES + lane) as u32);
            }
            for ((y, &x), &word) in y.iter_mut().zip(x).zip(words.as_flattened()) {
                *y = if unit_f32(word) >= p { x * scale } else { 0.0 };
            }
        }
    }
}
