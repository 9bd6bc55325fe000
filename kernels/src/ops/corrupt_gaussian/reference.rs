//! The Gaussian corruption for given noise, and its gradient.

/// x_t for x_0 `[b, l, d]`, level `[b, 2]` and the noise that was drawn.
pub(crate) fn forward(x_0: &[f64], level: &[f64], noise: &[f64]) -> Vec<f64> {
    let width = x_0.len() / (level.len() / 2);
    (0..x_0.len()).map(|i| level[i / width * 2] * x_0[i] + level[i / width * 2 + 1] * noise[i]).collect()
}

/// dx_0 for dy `[b, l, d]`.
pub(crate) fn backward(level: &[f64], dy: &[f64]) -> Vec<f64> {
    let width = dy.len() / (level.len() / 2);
    (0..dy.len()).map(|i| level[i / width * 2] * dy[i]).collect()
}

/// The noise of (rng, stream) by Box-Muller in f64.
pub(crate) fn noise(rows: usize, d: usize, rng: &[u32; 4], stream: u32) -> Vec<f64> {
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    let mut noise = Vec::with_capacity(rows * d);
    for row in 0..rows {
        for i in 0..d {
            let words = galatea_random::block(seed, stream, rng[2], row as u32, (i / 4) as u32);
            let pair = i % 4 / 2 * 2;
            let [u, v] = [words[pair], words[pair + 1]].map(|w| f64::from(galatea_random::unit_f32(w)));
            let angle = std::f64::consts::TAU * v;
            noise.push((-2.0 * u.ln()).sqrt() * if i % 2 == 0 { angle.cos() } else { angle.sin() });
        }
    }
    noise
}
