use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::Limit;
use galatea_random::{block, unit_f64};

/// Tokens of one task.
const GRAIN: usize = 1024;

/// x_t `[b, l]` ~ q(. | x_0) of `b` rows at `level`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    limit: Limit,
    stream: u32,
    b: usize,
    x_0: &[u32],
    level: &[f32],
    rng: &[u32],
    x_t: &mut [u32],
) {
    let (len, width) = (x_0.len() / b, level.len() / b);
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    cores.pool.rows(x_t, len, GRAIN.div_ceil(len), |first, x_t| {
        for (i, x_t) in x_t.chunks_mut(len).enumerate() {
            let row = first + i;
            let (x_0, level) = (&x_0[row * len..][..len], &level[row * width..][..width]);
            corrupt(cores.isa, limit, seed, stream, rng[2], row as u32, level, x_0, x_t);
        }
    });
}

multiversion! {
    fn corrupt(
        limit: Limit,
        seed: u64,
        stream: u32,
        step: u32,
        row: u32,
        level: &[f32],
        x_0: &[u32],
        x_t: &mut [u32],
    ) {
        let numbers = limit.levels();
        let (len, groups) = (x_0.len(), level.len() / numbers);
        for (i, (x_t, &x_0)) in x_t.iter_mut().zip(x_0).enumerate() {
            let words = block(seed, stream, step, row, i as u32);
            let level = &level[i * groups / len * numbers..][..numbers];
            let (u, alpha_bar) = (unit_f64([words[0], words[1]]), f64::from(level[0]));
            // The high half of a product is uniform below `ids` (bias below ids / 2^64).
            let uniform = |ids: u32| {
                let word = u64::from(words[2]) << 32 | u64::from(words[3]);
                ((u128::from(word) * u128::from(ids)) >> 64) as u32
            };
            let drawn = match limit {
                Limit::Mask(mask) => mask,
                Limit::Uniform(ids) => uniform(ids),
                Limit::Hybrid { ids, mask } => {
                    let other = uniform(ids);
                    if u < alpha_bar + f64::from(level[1]) { mask } else { other + u32::from(other >= mask) }
                }
            };
            *x_t = if u < alpha_bar { x_0 } else { drawn };
        }
    }
}
