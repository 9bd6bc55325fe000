//! The end-to-end objective of Diffusion-LM, term by term.
//!
//! For tokens w with embeddings E\[w\] the clean point is itself drawn, x_0 = E\[w\] + sqrt(1 - alpha_bar_1) noise, where
//! alpha_bar_1 is what the *first* step of the chain leaves, and then x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t)
//! noise. The loss of a sequence is [`mse`] (against E\[w\] at the first step, against x_0 else) + [`prior`] + the mean of
//! [`Rounding::nll`](super::rounding::Rounding::nll) *at x_0*, the noised embedding of the true token: the last term
//! anchors the table and says nothing about the model's prediction, which is a known source of confusion.
//!
//! # Source
//! Li et al. (2022), "Diffusion-LM improves controllable text generation", section 4.1; `training_losses_e2e` of its code.

/// The mean squared error of a prediction, and its gradient with respect to the prediction (that with respect to the
/// target is its negative).
///
/// # Shapes
/// All slices have one length n; the loss is the mean over all n numbers.
///
/// # Panics
/// If the lengths differ.
pub fn mse(x_0_hat: &[f64], target: &[f64], dx_0_hat: Option<&mut [f64]>) -> f64 {
    assert_eq!(x_0_hat.len(), target.len(), "mse: prediction and target must have one length");
    let n = x_0_hat.len() as f64;
    if let Some(dx_0_hat) = dx_0_hat {
        for ((d, hat), x) in dx_0_hat.iter_mut().zip(x_0_hat).zip(target) {
            *d = 2.0 * (hat - x) / n;
        }
    }
    x_0_hat.iter().zip(target).map(|(hat, x)| (hat - x) * (hat - x)).sum::<f64>() / n
}

/// The term that keeps the signal at T small, the mean of (sqrt(alpha_bar_T) x_0)², and its gradient.
///
/// It is the part of 2 KL(q(x_T | x_0) || N(0, I)) that depends on x_0, per number.
///
/// # Shapes
/// Both slices have one length; the loss is the mean over all numbers.
///
/// # Panics
/// If the lengths differ.
pub fn prior(x_0: &[f64], alpha_bar_end: f64, dx_0: Option<&mut [f64]>) -> f64 {
    let n = x_0.len() as f64;
    if let Some(dx_0) = dx_0 {
        assert_eq!(dx_0.len(), x_0.len(), "prior: the gradient must be as long as x_0");
        for (d, x) in dx_0.iter_mut().zip(x_0) {
            *d = 2.0 * alpha_bar_end * x / n;
        }
    }
    alpha_bar_end * x_0.iter().map(|x| x * x).sum::<f64>() / n
}

/// The standard deviation of x_0 around the embedding, sqrt(1 - alpha_bar_1).
pub fn start_std(alpha_bar_first: f64) -> f64 {
    (1.0 - alpha_bar_first).max(0.0).sqrt()
}
