use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{ln, map, sin_cos_of_turns};
use crate::philox::{Key, WORDS};
use crate::real::Real;
use galatea_random::unit_f32;

/// Elements of one task.
const GRAIN: usize = 4096;

/// x_t = signal x_0 + sigma noise for x_0 `[b, l, d]` with rows of `d`, level `[b, 2]`; writes the noise too.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward<X: Real>(
    cores: &Cores,
    stream: u32,
    d: usize,
    x_0: &[X],
    level: &[f32],
    rng: &[u32],
    x_t: &mut [X],
    noise: &mut [X],
) {
    let len = x_0.len() / d / (level.len() / 2);
    let key = Key::new(rng, stream);
    cores.pool.rows2(x_t, d, noise, d, GRAIN.div_ceil(d), |first, x_t, noise| {
        for (row, (x_t, noise)) in (first..).zip(x_t.chunks_mut(d).zip(noise.chunks_mut(d))) {
            let [signal, sigma] = [level[row / len * 2], level[row / len * 2 + 1]];
            corrupt(cores.isa, key, row, signal, sigma, &x_0[row * d..][..d], x_t, noise);
        }
    });
}

multiversion! {
    fn corrupt<X: Real>(key: Key, row: usize, signal: f32, sigma: f32, x_0: &[X], x_t: &mut [X], noise: &mut [X]) {
        let pieces = x_t.chunks_mut(WORDS).zip(noise.chunks_mut(WORDS)).zip(x_0.chunks(WORDS));
        for (i, ((x_t, noise), x_0)) in pieces.enumerate() {
            let normals = normals(key.words(row as u32, (i * WORDS / 4) as u32));
            for (((x_t, noise), x_0), normal) in x_t.iter_mut().zip(noise).zip(x_0).zip(normals) {
                *noise = X::store(normal);
                // Of the noise as it was written: a loss that subtracts it finds x_0 again.
                *x_t = X::store(signal * x_0.load() + sigma * noise.load());
            }
        }
    }
}

/// Two normals from every two words (Box-Muller).
#[inline(always)]
fn normals(words: [u32; WORDS]) -> [f32; WORDS] {
    let mut normals = [0.0; WORDS];
    for (normals, words) in normals.as_chunks_mut::<2>().0.iter_mut().zip(words.as_chunks::<2>().0) {
        let radius = (-2.0 * ln(unit_f32(words[0]))).sqrt();
        let (sin, cos) = sin_cos_of_turns(unit_f32(words[1]));
        *normals = [radius * cos, radius * sin];
    }
    normals
}

/// dx_0 = signal dy for level `[b, 2]`, dy `[b, l, d]`.
pub fn backward<X: Real>(cores: &Cores, level: &[f32], dy: &[X], dx_0: &mut [X]) {
    let width = dy.len() / (level.len() / 2);
    cores.pool.rows(dx_0, 1, GRAIN, |mut at, mut dx_0| {
        while !dx_0.is_empty() {
            // As far as one batch element reaches.
            let (run, rest) = dx_0.split_at_mut((width - at % width).min(dx_0.len()));
            scale(cores.isa, level[at / width * 2], &dy[at..][..run.len()], run);
            at += run.len();
            dx_0 = rest;
        }
    });
}

multiversion! {
    fn scale<X: Real>(signal: f32, dy: &[X], dx_0: &mut [X]) {
        map(dx_0, dy, dy, dy, |dy, _, _| signal * dy);
    }
}
