//! The bound of masked diffusion: weighted cross-entropy at masked positions.

use super::log_sum_exp;
use galatea_schedules::Schedule;

/// The weight of the continuous-time bound, -alpha_bar'(t) / (1 - alpha_bar(t)).
///
/// For the linear and the log-linear schedule it is 1 / t; for a masking probability p(t) = 1 - alpha_bar(t) in general
/// p'(t) / p(t). LLaDA divides by p alone, which is this weight for its p = (1 - eps) t + eps up to the factor 1 - eps.
///
/// # Source
/// Sahoo et al. (2024), MDLM, the continuous-time NELBO; Shi et al. (2024), MD4, its continuous-time ELBO.
pub fn weight(schedule: &impl Schedule, t: f64) -> f64 {
    -schedule.alpha_bar_derivative(t) / schedule.noise(t)
}

/// The weight of the bound of a chain of `steps`: steps (alpha_bar_s - alpha_bar_t) / (1 - alpha_bar_t), where s and t
/// are the ends of one step. Its mean over the steps bounds -log p(x_0) less the reconstruction at the first step.
///
/// # Source
/// `docs/derivations/bounds.md`, section 1; MDLM's and MD4's finite-T losses.
pub fn weight_of_steps(alpha_bar_t: f64, alpha_bar_s: f64, steps: usize) -> f64 {
    steps as f64 * (alpha_bar_s - alpha_bar_t) / (1.0 - alpha_bar_t)
}

/// One token of the masked NELBO in nats under SUBS: 0 where x_t is not the mask, else
/// -`weight` log softmax(logits without the mask)\[x_0\].
///
/// The gradient is `weight` (p - x_0); it is 0 at the mask, which is forbidden as a clean token.
///
/// # Shapes
/// `logits` and `dlogits` \[vocab\], the mask id included.
///
/// # Panics
/// If an id is outside `logits`.
///
/// # Source
/// Sahoo et al. (2024), MDLM, the SUBS parameterisation and the continuous-time NELBO.
pub fn nelbo(logits: &[f64], x_0: u32, x_t: u32, mask: u32, weight: f64, dlogits: Option<&mut [f64]>) -> f64 {
    if x_t != mask {
        if let Some(dlogits) = dlogits {
            dlogits.fill(0.0);
        }
        return 0.0;
    }
    let total = log_sum_exp(logits, Some(mask));
    if let Some(dlogits) = dlogits {
        for (d, &logit) in dlogits.iter_mut().zip(logits) {
            *d = weight * (logit - total).exp();
        }
        dlogits[x_0 as usize] -= weight;
        dlogits[mask as usize] = 0.0;
    }
    weight * (total - logits[x_0 as usize])
}

/// SUBS: turns logits into log p(x_0 | x_t) in place. The mask gets no mass, and an unmasked token is itself.
///
/// # Source
/// Sahoo et al. (2024), MDLM, SUBS: zero masking probabilities and carry-over unmasking.
pub fn subs(logits: &mut [f64], x_t: u32, mask: u32) {
    if x_t == mask {
        let total = log_sum_exp(logits, Some(mask));
        logits.iter_mut().for_each(|logit| *logit -= total);
        logits[mask as usize] = f64::NEG_INFINITY;
    } else {
        logits.fill(f64::NEG_INFINITY);
        logits[x_t as usize] = 0.0;
    }
}

/// What reading the data off z_0 costs when the schedule starts below 1, per token and in nats:
/// (1 - alpha_bar(0)) log(vocab - 1), a uniform guess at the tokens that are masked already.
///
/// `vocab` counts the mask.
///
/// # Source
/// Shi et al. (2024), MD4, `recon_loss`.
pub fn reconstruction(alpha_bar_0: f64, vocab: usize) -> f64 {
    (1.0 - alpha_bar_0) * ((vocab - 1) as f64).ln()
}
