//! Drawing the times of a training batch.

mod history;

pub use history::LossHistory;

use crate::Bounds;
use galatea_random::Philox;

/// How the n times of a batch cover \[t_min, 1\]. Every rule gives each single time the uniform law; they differ in how
/// the times repel each other, and so in the variance of a batch's mean loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Times {
    /// Independent uniform times.
    Independent,
    /// Pairs u and 1 - u (an odd batch ends with a single one).
    Antithetic,
    /// One independent time in each of n equal strata: MDLM's "antithetic" sampling.
    #[default]
    Stratified,
    /// (u + i / n) mod 1 for one shared u: the low-discrepancy lattice of VDM, Plaid and MD4.
    Lattice,
}

impl Times {
    /// Fills `times` with numbers in \[`t_min`, 1).
    ///
    /// The order within a batch is that of the strata; a batch split over machines draws all of it with the same
    /// generator and takes its share, so that the strata are global.
    ///
    /// # Source
    /// Kingma et al. (2021), "Variational diffusion models", appendix I.1 (the lattice); MDLM's `_sample_t`.
    pub fn draw(self, t_min: f64, rng: &mut Philox, times: &mut [f64]) {
        let n = times.len() as f64;
        match self {
            Self::Independent => times.iter_mut().for_each(|t| *t = rng.uniform()),
            Self::Antithetic => {
                for pair in times.chunks_mut(2) {
                    let u = rng.uniform();
                    pair[0] = u;
                    if let Some(mirror) = pair.get_mut(1) {
                        *mirror = 1.0 - u;
                    }
                }
            }
            Self::Stratified => {
                for (i, t) in times.iter_mut().enumerate() {
                    *t = (i as f64 + rng.uniform()) / n;
                }
            }
            Self::Lattice => {
                let u = rng.uniform();
                for (i, t) in times.iter_mut().enumerate() {
                    *t = (u + i as f64 / n).fract();
                }
            }
        }
        times.iter_mut().for_each(|t| *t = t_min + (1.0 - t_min) * *t);
    }

    /// Fills `times` with numbers within `bounds`. For block diffusion, hand in all blocks of all rows at once, so that the
    /// strata run over both: \[batch, blocks\] in row-major order.
    ///
    /// # Source
    /// Arriola et al. (2025), BD3-LM, the clipped schedules.
    pub fn draw_within(self, bounds: Bounds, rng: &mut Philox, times: &mut [f64]) {
        self.draw(0.0, rng, times);
        times.iter_mut().for_each(|t| *t = bounds.place(*t));
    }
}

/// The end of the step of a chain of `steps` that a continuous time falls into, (floor(t T) + 1) / T, at most 1.
///
/// # Source
/// MD4 and MDLM, discrete-time losses.
pub fn quantise(t: f64, steps: usize) -> f64 {
    (((t * steps as f64).floor() + 1.0) / steps as f64).min(1.0)
}
