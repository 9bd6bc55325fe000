use crate::cpu::Cores;
use galatea_random::{block, normal_pair_f32};

/// Elements of one task.
const GRAIN: usize = 4096;

/// x_t = signal x_0 + sigma noise for x_0 `[b, l, d]` with rows of `d`, level `[b, 2]`; writes the noise too.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    stream: u32,
    d: usize,
    x_0: &[f32],
    level: &[f32],
    rng: &[u32],
    x_t: &mut [f32],
    noise: &mut [f32],
) {
    let len = x_0.len() / d / (level.len() / 2);
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    cores.pool.rows2(x_t, d, noise, d, GRAIN.div_ceil(d), |first, x_t, noise| {
        for (i, (x_t, noise)) in x_t.chunks_mut(d).zip(noise.chunks_mut(d)).enumerate() {
            let row = first + i;
            for (i, noise) in noise.chunks_mut(4).enumerate() {
                let [a, b, c, d] = block(seed, stream, rng[2], row as u32, i as u32);
                let ([p, q], [r, s]) = (normal_pair_f32([a, b]), normal_pair_f32([c, d]));
                noise.copy_from_slice(&[p, q, r, s][..noise.len()]);
            }
            let [signal, sigma] = [level[row / len * 2], level[row / len * 2 + 1]];
            for ((x_t, x_0), noise) in x_t.iter_mut().zip(&x_0[row * d..]).zip(noise) {
                *x_t = signal * x_0 + sigma * *noise;
            }
        }
    });
}

/// dx_0 = signal dy for level `[b, 2]`, dy `[b, l, d]`.
pub fn backward(cores: &Cores, level: &[f32], dy: &[f32], dx_0: &mut [f32]) {
    let width = dy.len() / (level.len() / 2);
    cores.pool.rows(dx_0, 1, GRAIN, |first, dx_0| {
        for (i, (dx_0, dy)) in dx_0.iter_mut().zip(&dy[first..]).enumerate() {
            *dx_0 = level[(first + i) / width * 2] * dy;
        }
    });
}
