//! What can be chosen about a Gaussian sampler.

use crate::Error;
use crate::error::parameter;
use crate::steps::Steps;
use galatea_processes::{Prediction, Variance};

/// Which reverse step is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The posterior q(x_s | x_t, x_0_hat), with its own variance or the forward step's. (With its own it is also VDM's
    /// step, equation 33, and Plaid's sampler.)
    Ddpm(Variance),
    /// The step of DDIM: `eta` = 0 is deterministic after the first draw and the same as first-order DPM-Solver++, 1 is
    /// the posterior.
    Ddim {
        /// How much of the posterior's noise is added.
        eta: f64,
    },
    /// DPM-Solver++(2M): DDIM's deterministic step towards the prediction extrapolated, along log(signal / spread), from
    /// this call and the one before. The first step is DDIM's, and so is one to or from a level without noise or signal.
    Multistep {
        /// Whether the last step is DDIM's as well.
        lower_order_final: bool,
    },
}

/// Whether the prediction is moved to an embedding before it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Clamp {
    /// The prediction is used as it is.
    #[default]
    Never,
    /// In every step the prediction becomes the nearest embedding.
    Nearest,
}

/// How fixed tokens are shown to the denoiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Known {
    /// With the noise of the level, drawn anew in every step (RePaint): what the denoiser was trained on.
    #[default]
    Noised,
    /// As clean embeddings after every step (Diffusion-LM); only the first canvas has them noised.
    Clean,
}

/// The options of [`Embedding`](crate::Embedding).
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingOptions {
    /// The seed of every draw.
    pub seed: u64,
    /// The number of the batch's first sample under this seed.
    pub first_sample: u32,
    /// Which reverse step is taken.
    pub method: Method,
    /// What the denoiser's output means. All but x_0 and v need some signal at every level.
    pub prediction: Prediction,
    /// Whether the prediction is moved to an embedding in every step.
    pub clamp: Clamp,
    /// The predicted noise is divided by it: below 1 exaggerates the score (0.9 in Plaid), which needs some signal at
    /// every level; 1 leaves it.
    pub score_temperature: f64,
    /// How fixed tokens are shown to the denoiser.
    pub known: Known,
    /// How often each step is taken: before every repetition the result is diffused back to where the step began, so that
    /// free positions can settle with the fixed ones (RePaint's resampling with jumps of one step). 1 takes each once.
    pub resampling: usize,
    /// Noise of a step beyond this is drawn again (truncated normals); at least 1e-2.
    pub noise_bound: Option<f64>,
    /// Ids that are never rounded or clamped to.
    pub forbidden: Vec<u32>,
    /// The bias of a tied output head that does the rounding; `None` rounds to the nearest embedding. A model that reads
    /// its own tokens needs neither.
    pub head_bias: Option<Vec<f32>>,
}

impl Default for EmbeddingOptions {
    /// The posterior's own variance, no clamping, noised infilling, rounding to the nearest embedding.
    fn default() -> Self {
        Self {
            seed: 0,
            first_sample: 0,
            method: Method::Ddpm(Variance::Small),
            prediction: Prediction::X0,
            clamp: Clamp::Never,
            score_temperature: 1.0,
            known: Known::Noised,
            resampling: 1,
            noise_bound: None,
            forbidden: Vec::new(),
            head_bias: None,
        }
    }
}

impl EmbeddingOptions {
    pub(super) fn check(&self, steps: &Steps) -> Result<(), Error> {
        let once = match self.method {
            Method::Ddim { eta } => {
                parameter("eta", "in [0, 1]", eta, (0.0..=1.0).contains(&eta))?;
                false
            }
            Method::Ddpm(Variance::Small | Variance::Large) => false,
            Method::Multistep { .. } => true,
        };
        let (expected, found) = ("at least 1, and 1 for a multistep method", self.resampling);
        parameter("resampling", expected, found as f64, found == 1 || (found > 1 && !once))?;
        if let Some(bound) = self.noise_bound {
            parameter("noise_bound", "at least 0.01", bound, bound >= 0.01)?;
        }
        let temperature = self.score_temperature;
        let holds = temperature > 0.0 && temperature.is_finite();
        parameter("score_temperature", "finite and above 0", temperature, holds)?;
        let divides = match self.prediction {
            Prediction::X0 | Prediction::V => temperature != 1.0,
            Prediction::Noise | Prediction::Score => true,
        };
        if divides { steps.check_signal() } else { Ok(()) }
    }
}
