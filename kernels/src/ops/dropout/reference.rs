//! Dropout, one element at a time.

pub(crate) fn forward(p: f32, stream: u32, d: usize, x: &[f64], rng: &[u32; 4]) -> Vec<f64> {
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    let mut y = vec![0.0; x.len()];
    for i in 0..x.len() {
        let words = galatea_random::block(seed, stream, rng[2], (i / d) as u32, (i % d / 4) as u32);
        if galatea_random::unit_f32(words[i % d % 4]) >= p {
            y[i] = x[i] / (1.0 - f64::from(p));
        }
    }
    y
}
