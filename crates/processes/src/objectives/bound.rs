//! A bound on -log p(text) in nats for Gaussian diffusion on embeddings, comparable with the bounds of token processes.
//!
//! For one token w with embedding x_0, and a schedule cut off at t_min > 0 (where the log-SNR is still finite):
//!
//! -log p(w) <= E\[ -log p(w | z_0) \] + 1/2 ∫ -SNR'(t) E|x_0 - x_0_hat(z_t, t)|² dt + KL(q(z_1 | x_0) || N(0, I)),
//!
//! where z_0 is drawn at t_min and the integral runs from t_min to 1. The three terms are
//! [`Rounding::nll`](super::rounding::Rounding::nll), [`diffusion`] and [`Gaussian::prior_kl`](crate::Gaussian::prior_kl).
//! Divide their sum over a text by its tokens for nats per token.
//!
//! # Source
//! Kingma et al. (2021), "Variational diffusion models", the diffusion loss; Gulrajani, Hashimoto (2023), Plaid; `docs/derivations/gaussian.md`, section 6.

use galatea_schedules::Schedule;

/// The weight of the continuous-time bound, -SNR'(t) / 2 = -alpha_bar' / (2 (1 - alpha_bar)²).
///
/// A time drawn uniformly from \[t_min, 1\] has density 1 / (1 - t_min): multiply by 1 - t_min for an unbiased estimate.
pub fn weight(schedule: &impl Schedule, t: f64) -> f64 {
    let noise = 1.0 - schedule.alpha_bar(t);
    -0.5 * schedule.alpha_bar_derivative(t) / (noise * noise)
}

/// The weight of one step of a chain, (SNR(s) - SNR(t)) / 2: the KL between q(z_s | z_t, x_0) and the same with x_0_hat
/// is this times |x_0 - x_0_hat|². A random one of T steps is multiplied by T.
///
/// # Source
/// Kingma et al. (2021), the loss in discrete time.
pub fn weight_of_step(alpha_bar_t: f64, alpha_bar_s: f64) -> f64 {
    let snr = |alpha_bar: f64| alpha_bar / (1.0 - alpha_bar);
    0.5 * (snr(alpha_bar_s) - snr(alpha_bar_t))
}

/// The diffusion term in nats, `weight` |x_0 - x_0_hat|², and its gradients with respect to both.
///
/// # Shapes
/// All slices have one length: one token's embedding, or a whole text's.
///
/// # Panics
/// If the lengths differ.
pub fn diffusion(
    x_0: &[f64],
    x_0_hat: &[f64],
    weight: f64,
    dx_0: Option<&mut [f64]>,
    dx_0_hat: Option<&mut [f64]>,
) -> f64 {
    assert_eq!(x_0.len(), x_0_hat.len(), "diffusion: x_0 and its prediction must have one length");
    for (gradient, sign) in [(dx_0, 2.0), (dx_0_hat, -2.0)] {
        if let Some(gradient) = gradient {
            assert_eq!(gradient.len(), x_0.len(), "diffusion: a gradient must be as long as x_0");
            for ((d, x), hat) in gradient.iter_mut().zip(x_0).zip(x_0_hat) {
                *d = sign * weight * (x - hat);
            }
        }
    }
    weight * x_0.iter().zip(x_0_hat).map(|(x, hat)| (x - hat) * (x - hat)).sum::<f64>()
}
