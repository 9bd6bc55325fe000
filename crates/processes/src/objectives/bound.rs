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
    let noise = schedule.noise(t);
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

/// The weight of the continuous-time bound by gamma = -log SNR and its derivative in t: e^-gamma gamma' / 2, which is
/// [`weight`] for a schedule that knows its gamma. Its derivative is minus itself in gamma, and itself over gamma' in gamma'.
pub fn weight_of_gamma(gamma: f64, slope: f64) -> f64 {
    0.5 * (-gamma).exp() * slope
}

/// KL(q(z_1 | x_0) || N(0, I)) of a token with |x_0|² = `square` in `d` dimensions at gamma(1), and its derivative in gamma(1).
///
/// With alpha² = sigmoid(-gamma) and sigma² = sigmoid(gamma): (d (sigma² - 1 - ln sigma²) + alpha² square) / 2, whose derivative
/// is -alpha² (d alpha² + sigma² square) / 2.
pub fn prior(gamma_1: f64, square: f64, d: usize) -> (f64, f64) {
    // ln sigma² = -ln(1 + e^-gamma) = -softplus(-gamma).
    let softplus = (-gamma_1).max(0.0) + (-gamma_1.abs()).exp().ln_1p();
    let noise = (-softplus).exp();
    let signal = 1.0 - noise;
    let d = d as f64;
    (0.5 * (d * (softplus - signal) + signal * square), -0.5 * signal * (d * signal + noise * square))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gaussian;
    use galatea_fixtures::derivative;
    use galatea_schedules::{GammaWeights, LearnedGamma};

    #[test]
    fn weight_of_gamma_is_the_weight_of_its_schedule() {
        let (w_1, b_1, w_2) = (vec![0.3, -1.0], vec![0.5, -0.2], vec![1.0, 0.1]);
        let schedule = LearnedGamma::new(GammaWeights { w_1, b_1, w_2, gamma_0: -3.0, gamma_1: 6.0 }).expect("rises");
        for t in [0.0, 0.2, 0.9] {
            let found = weight_of_gamma(schedule.gamma(t), schedule.gamma_derivative(t));
            let truth = weight(&schedule, t);
            assert!((found - truth).abs() < 1e-9 * truth, "{found} and {truth}");
        }
    }

    #[test]
    fn prior_equals_the_kl_and_its_derivative() {
        for gamma in [-2.0, 0.0, 3.0, 6.0] {
            let alpha_bar = 1.0 / (1.0 + f64::exp(gamma));
            let truth = Gaussian.prior_kl(&[0.6, 0.8, 0.0], alpha_bar);
            assert!((prior(gamma, 1.0, 3).0 - truth).abs() < 1e-12);
            let slope = derivative(|gamma| prior(gamma, 1.0, 3).0, gamma, 1e-3);
            assert!((prior(gamma, 1.0, 3).1 - slope).abs() < 1e-10);
        }
    }
}
