use crate::cpu::Cores;
use crate::isa::multiversion;

/// The most chunks a vector is cut into.
const CHUNKS: usize = 256;
/// The least elements of a chunk.
const SMALLEST: usize = 4096;

/// Sums that run side by side.
const LANES: usize = 64;

/// norm `[1]` of a flat g.
pub fn forward(cores: &Cores, g: &[f32], norm: &mut [f32]) {
    norm[0] = sum_of_squares(cores, g).sqrt() as f32;
}

/// sum_i x_i^2; the order depends on the length alone.
pub(crate) fn sum_of_squares(cores: &Cores, x: &[f32]) -> f64 {
    let width = x.len().div_ceil(CHUNKS).max(SMALLEST);
    let mut partial = [0.0f64; CHUNKS];
    let partial = &mut partial[..x.len().div_ceil(width)];
    cores.pool.rows(partial, 1, 1, |chunk, partial| {
        let from = chunk * width;
        partial[0] = squares(cores.isa, &x[from..(from + width).min(x.len())]);
    });
    partial.iter().sum()
}

multiversion! {
    fn squares(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (body, tail) = x.as_chunks::<LANES>();
        for chunk in body {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        lanes.iter().sum::<f64>() + tail.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
    }
}

/// min(1, max_norm / norm). A norm that is not a number gives NaN, not 1: a poisoned gradient shows in every parameter
/// instead of being applied in part or passed over.
pub(crate) fn clip(max_norm: f32, norm: f32) -> f32 {
    let ratio = max_norm / norm;
    if ratio >= 1.0 { 1.0 } else { ratio }
}
