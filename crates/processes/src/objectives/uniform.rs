//! The bound of uniform-state diffusion.

use super::row::Softmax;

/// One token of the uniform-state NELBO in nats (its integrand over t), in the form that needs one pass over the
/// vocabulary.
///
/// With x̄_j = V alpha_bar p_j + 1 - alpha_bar for p = softmax(logits), κ = (1 - alpha_bar) / (V alpha_bar + 1 - alpha_bar),
/// z = x_t and c = alpha_bar' / (V alpha_bar), where x_t ≠ x_0:
///
/// c \[V (1/(1 - alpha_bar) - 1/x̄_z) + Σ_j log x̄_j - V log x̄_z + V alpha_bar/(1 - alpha_bar) (log x̄_{x_0} - log x̄_z)
///   + log κ / κ\],
///
/// and where x_t = x_0: c \[V (1/(V alpha_bar + 1 - alpha_bar) - 1/x̄_z) + κ (Σ_j log x̄_j - V log x̄_z) - (V - 1) κ log κ\].
/// Where no signal is left (alpha_bar = 0) it is 0.
///
/// # Shapes
/// `logits` and `dlogits` \[vocab\].
///
/// # Panics
/// If an id is outside `logits`.
///
/// # Source
/// Sahoo et al. (2025), Duo, the Rao-Blackwellised NELBO; equal to Schiff et al. (2024), UDLM;
/// `docs/derivations/bounds.md`, section 2.
pub fn nelbo(
    logits: &[f64],
    x_0: u32,
    x_t: u32,
    alpha_bar: f64,
    alpha_bar_derivative: f64,
    dlogits: Option<&mut [f64]>,
) -> f64 {
    let (v, z, own) = (logits.len() as f64, x_t as usize, x_0 as usize);
    if alpha_bar <= 0.0 {
        if let Some(dlogits) = dlogits {
            dlogits.fill(0.0);
        }
        return 0.0;
    }
    let (noise, signal) = (1.0 - alpha_bar, v * alpha_bar);
    let row = Softmax::new(logits, None);
    let x_bar = |k: usize| signal * row.p(k) + noise;
    let kappa = noise / (signal + noise);
    // The coefficients of the three parts that depend on the model, and the constant that does not.
    let (all, at_x_0, constant) = if x_t == x_0 {
        let log_part = if kappa > 0.0 { kappa * kappa.ln() } else { 0.0 };
        (kappa, 0.0, v / (signal + noise) - (v - 1.0) * log_part)
    } else {
        (1.0, signal / noise, v / noise + kappa.ln() / kappa)
    };
    let c = alpha_bar_derivative / signal;
    let (at_z, log_at_z) = (x_bar(z), x_bar(z).ln());
    let sum = row.sum_log_mixed(signal, noise);
    let bracket = constant - v / at_z + all * (sum - v * log_at_z) + at_x_0 * (x_bar(own).ln() - log_at_z);
    if let Some(dlogits) = dlogits {
        let scale = c * signal;
        for (k, d) in dlogits.iter_mut().enumerate() {
            *d = scale * all / x_bar(k);
        }
        dlogits[own] += scale * at_x_0 / x_bar(own);
        dlogits[z] += scale * (v / at_z - all * v - at_x_0) / at_z;
        row.backward(dlogits);
    }
    c * bracket
}
