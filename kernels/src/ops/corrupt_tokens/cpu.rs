use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::Limit;
use galatea_random::{block, unit_f32};

/// Tokens of one task.
const GRAIN: usize = 1024;

/// x_t `[b, l]` ~ q(. | x_0) at alpha_bar `[b]` or `[b, blocks]`.
pub fn forward(cores: &Cores, limit: Limit, stream: u32, x_0: &[u32], alpha_bar: &[f32], rng: &[u32], x_t: &mut [u32]) {
    let len = x_0.len() / alpha_bar.len();
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    cores.pool.rows(x_t, len, GRAIN.div_ceil(len), |b, x_t| {
        for (i, x_t) in x_t.chunks_mut(len).enumerate() {
            let row = (b + i) * len;
            corrupt(cores.isa, limit, seed, stream, rng[2], row, alpha_bar[b + i], &x_0[row..row + len], x_t);
        }
    });
}

multiversion! {
    fn corrupt(
        limit: Limit,
        seed: u64,
        stream: u32,
        step: u32,
        first: usize,
        alpha_bar: f32,
        x_0: &[u32],
        x_t: &mut [u32],
    ) {
        for (i, (x_t, &x_0)) in x_t.iter_mut().zip(x_0).enumerate() {
            let words = block(seed, stream, step, (first + i) as u32, 0);
            let drawn = match limit {
                Limit::Mask(mask) => mask,
                // The high word of a product is uniform below `ids` (bias below ids / 2^32).
                Limit::Uniform(ids) => ((u64::from(words[1]) * u64::from(ids)) >> 32) as u32,
            };
            *x_t = if unit_f32(words[0]) < alpha_bar { x_0 } else { drawn };
        }
    }
}
