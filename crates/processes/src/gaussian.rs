//! Gaussian processes on embeddings: variance preserving, and the variance exploding one as a change of scale.

use crate::error::{same_shape, unit_interval};
use crate::{Error, GaussianStep};
use galatea_random::Philox;
use ndarray::{ArrayRef1, ArrayRef3};

/// Which variance a DDPM step adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Variance {
    /// That of the posterior q(x_s | x_t, x_0): right for data at one point ("FIXED_SMALL").
    #[default]
    Small,
    /// That of the forward step, 1 - alpha_bar_t / alpha_bar_s: right for data that are standard normal ("FIXED_LARGE").
    /// Into s with alpha_bar_s = 1 no noise is added.
    Large,
}

/// The variance-preserving process x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise.
///
/// # Source
/// Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", equations 4, 6 and 7; `docs/derivations/gaussian.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaussian;

impl Gaussian {
    /// The mean's factor and the standard deviation of q(x_t | x_0): (sqrt(alpha_bar), sqrt(1 - alpha_bar)).
    pub fn marginal(&self, alpha_bar: f64) -> (f64, f64) {
        (alpha_bar.sqrt(), (1.0 - alpha_bar).max(0.0).sqrt())
    }

    /// Draws x_t from q(x_t | x_0).
    ///
    /// # Shapes
    /// `x_0` and `x_t` \[batch, len, d\], `alpha_bar` \[batch\]. Row b reads the counter (`seed`, `stream`, `step`, b),
    /// one block per number.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, [`Error::Parameter`] for an alpha_bar outside \[0, 1\].
    pub fn corrupt(
        &self,
        x_0: &ArrayRef3<f32>,
        alpha_bar: &ArrayRef1<f64>,
        seed: u64,
        stream: u32,
        step: u32,
        x_t: &mut ArrayRef3<f32>,
    ) -> Result<(), Error> {
        same_shape("x_t", x_0.shape(), x_t.shape())?;
        self.draw_noise(seed, stream, step, x_t);
        self.blend(x_0, alpha_bar, x_t)
    }

    /// Fills `noise` with standard normals, the same ones that [`corrupt`](Self::corrupt) uses under the same key.
    ///
    /// # Shapes
    /// `noise` \[batch, len, d\].
    pub fn draw_noise(&self, seed: u64, stream: u32, step: u32, noise: &mut ArrayRef3<f32>) {
        for (row, mut plane) in noise.outer_iter_mut().enumerate() {
            let mut rng = Philox::new(seed, stream, step, row as u32);
            plane.iter_mut().for_each(|z| *z = rng.normal() as f32);
        }
    }

    /// Turns `noise` into x_t in place: sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise.
    ///
    /// # Shapes
    /// `x_0` and `noise` \[batch, len, d\], `alpha_bar` \[batch\].
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, [`Error::Parameter`] for an alpha_bar outside \[0, 1\].
    pub fn blend(
        &self,
        x_0: &ArrayRef3<f32>,
        alpha_bar: &ArrayRef1<f64>,
        noise: &mut ArrayRef3<f32>,
    ) -> Result<(), Error> {
        same_shape("noise", x_0.shape(), noise.shape())?;
        same_shape("alpha_bar", &[x_0.shape()[0]], alpha_bar.shape())?;
        unit_interval("alpha_bar", alpha_bar)?;
        for ((clean, mut noisy), &alpha_bar) in x_0.outer_iter().zip(noise.outer_iter_mut()).zip(alpha_bar) {
            let (signal, spread) = self.marginal(alpha_bar);
            noisy.zip_mut_with(&clean, |z, &x| *z = (signal * f64::from(x) + spread * f64::from(*z)) as f32);
        }
        Ok(())
    }

    /// The ancestral step: mean and variance of q(x_s | x_t, x_0), or the larger variance.
    ///
    /// With r = alpha_bar_t / alpha_bar_s: c_0 = sqrt(alpha_bar_s) (1 - r) / (1 - alpha_bar_t),
    /// c_t = sqrt(r) (1 - alpha_bar_s) / (1 - alpha_bar_t), variance (1 - r)(1 - alpha_bar_s) / (1 - alpha_bar_t).
    /// Without noise at t nothing changes.
    pub fn ddpm(&self, alpha_bar_t: f64, alpha_bar_s: f64, t: f64, s: f64, variance: Variance) -> GaussianStep {
        let noise = 1.0 - alpha_bar_t;
        if noise <= 0.0 {
            return GaussianStep { t, s, c_0: 0.0, c_t: 1.0, sigma: 0.0 };
        }
        let r = crate::categorical::ratio(alpha_bar_t, alpha_bar_s);
        let small = (1.0 - r) * (1.0 - alpha_bar_s) / noise;
        let square = match variance {
            Variance::Small => small,
            Variance::Large => {
                if alpha_bar_s < 1.0 {
                    1.0 - r
                } else {
                    0.0
                }
            }
        };
        GaussianStep {
            t,
            s,
            c_0: alpha_bar_s.sqrt() * (1.0 - r) / noise,
            c_t: r.sqrt() * (1.0 - alpha_bar_s) / noise,
            sigma: square.max(0.0).sqrt(),
        }
    }

    /// The DDIM step: `eta` = 0 is deterministic, `eta` = 1 is [`ddpm`](Self::ddpm) with [`Variance::Small`].
    ///
    /// sigma = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) sqrt(1 - alpha_bar_t / alpha_bar_s), and
    /// x_s = sqrt(alpha_bar_s) x_0_hat + sqrt(1 - alpha_bar_s - sigma²) noise_hat + sigma noise.
    ///
    /// # Source
    /// Song, Meng, Ermon (2021), "Denoising diffusion implicit models", equations 12 and 16.
    pub fn ddim(&self, alpha_bar_t: f64, alpha_bar_s: f64, t: f64, s: f64, eta: f64) -> GaussianStep {
        let sigma = eta * self.ddpm(alpha_bar_t, alpha_bar_s, t, s, Variance::Small).sigma;
        let noise = 1.0 - alpha_bar_t;
        if noise <= 0.0 {
            return GaussianStep { t, s, c_0: 0.0, c_t: 1.0, sigma: 0.0 };
        }
        let c_t = ((1.0 - alpha_bar_s - sigma * sigma).max(0.0) / noise).sqrt();
        GaussianStep { t, s, c_0: alpha_bar_s.sqrt() - c_t * alpha_bar_t.sqrt(), c_t, sigma }
    }

    /// KL(q(x_1 | x_0) || N(0, I)) in nats: 1/2 sum of alpha_bar x² - alpha_bar - log(1 - alpha_bar).
    pub fn prior_kl(&self, x_0: &[f64], alpha_bar: f64) -> f64 {
        let rest = -alpha_bar - (-alpha_bar).ln_1p();
        x_0.iter().map(|x| 0.5 * (alpha_bar * x * x + rest)).sum()
    }
}

/// The variance-exploding process x_sigma = x_0 + sigma noise.
///
/// It is the variance-preserving one on another scale: sqrt(alpha_bar) x_sigma is a VP x_t with
/// alpha_bar = 1 / (1 + sigma²).
///
/// # Source
/// Song et al. (2021), "Score-based generative modeling through stochastic differential equations"; Karras et al. (2022).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VarianceExploding;

impl VarianceExploding {
    /// The signal power of the same noise level in a VP process, 1 / (1 + sigma²).
    pub fn alpha_bar(&self, sigma: f64) -> f64 {
        1.0 / (1.0 + sigma * sigma)
    }

    /// The noise level of a VP process's signal power, sqrt((1 - alpha_bar) / alpha_bar).
    pub fn sigma(&self, alpha_bar: f64) -> f64 {
        ((1.0 - alpha_bar) / alpha_bar).sqrt()
    }

    /// The step from `sigma_t` to `sigma_s`, in which x is not rescaled: `eta` = 0 is the probability-flow Euler step,
    /// `eta` = 1 the posterior q(x_s | x_t, x_0).
    pub fn step(&self, sigma_t: f64, sigma_s: f64, t: f64, s: f64, eta: f64) -> GaussianStep {
        if sigma_t <= 0.0 {
            return GaussianStep { t, s, c_0: 0.0, c_t: 1.0, sigma: 0.0 };
        }
        let kept = (sigma_s / sigma_t).min(1.0);
        let sigma = eta * sigma_s * (1.0 - kept * kept).sqrt();
        let c_t = (sigma_s * sigma_s - sigma * sigma).max(0.0).sqrt() / sigma_t;
        GaussianStep { t, s, c_0: 1.0 - c_t, c_t, sigma }
    }
}
