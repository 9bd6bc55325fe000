//! Gradients that pull the embeddings towards what is wanted.

use ndarray::{ArrayRef3, Zip};

/// A function of noisy embeddings whose increase is wanted, such as log p(y | z) of a classifier or of the model's own
/// tokens; `E` is the denoiser's error.
pub trait Guide<E> {
    /// Writes the gradient of the function at `z`.
    ///
    /// `x_0_before` is the denoiser's answer of the step before, zeros in the first: what a self-conditioned model was told.
    ///
    /// # Shapes
    /// `z`, `x_0_before` and `gradient` \[batch, len, d\]; every entry of `gradient` is overwritten.
    ///
    /// # Errors
    /// Whatever the guide's model reports.
    fn gradient(
        &mut self,
        z: &ArrayRef3<f32>,
        t: f64,
        x_0_before: &ArrayRef3<f32>,
        gradient: &mut ArrayRef3<f32>,
    ) -> Result<(), E>;
}

/// No wish at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unguided;

impl<E> Guide<E> for Unguided {
    fn gradient(
        &mut self,
        _: &ArrayRef3<f32>,
        _: f64,
        _: &ArrayRef3<f32>,
        gradient: &mut ArrayRef3<f32>,
    ) -> Result<(), E> {
        gradient.fill(0.0);
        Ok(())
    }
}

/// Where the gradient enters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guidance {
    /// The prediction moves: x_0_hat + (1 - alpha_bar) / sqrt(alpha_bar) gradient at x_t, which adds the gradient to the
    /// score (Plaid). It needs some signal at every level.
    Prediction,
    /// After every step Adagrad moves the new embeddings, minimising -f(z) + fluency |z - mean|² / sigma² with the mean and
    /// the deviation that the step drew them from (Diffusion-LM; 1 stands for a sigma of 0).
    Latents {
        /// How many steps of Adagrad follow a step of the sampler: 3 in Diffusion-LM.
        steps: usize,
        /// Adagrad's rate.
        rate: f64,
        /// What staying near the mean is worth: 0.01 in Diffusion-LM.
        fluency: f64,
        /// Steps to times below it stay as they are.
        t_min: f64,
    },
}

/// One step of Adagrad up the slope of f(z) - fluency |z - mean|² / sigma².
pub(super) fn ascend(
    (rate, fluency, sigma): (f64, f64, f64),
    z: &mut ArrayRef3<f32>,
    mean: &ArrayRef3<f32>,
    gradient: &ArrayRef3<f32>,
    squares: &mut ArrayRef3<f32>,
) {
    let pull = 2.0 * fluency / if sigma > 0.0 { sigma * sigma } else { 1.0 };
    Zip::from(z).and(mean).and(gradient).and(squares).for_each(|z, &mean, &gradient, square| {
        let slope = f64::from(gradient) - pull * (f64::from(*z) - f64::from(mean));
        *square += (slope * slope) as f32;
        *z += (rate * slope / (f64::from(*square).sqrt() + 1e-10)) as f32;
    });
}
