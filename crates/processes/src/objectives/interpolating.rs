//! The bound of any process between a token and a noise that changes in time: GIDD's, and with it the masked and the uniform one.

use super::row::Softmax;
use crate::{Hybrid, Interpolating};

/// The weight of the continuous-time bound at one token: inflow_t(x_t) / q(x_t | x_0), the rate at which the process has just
/// produced this x_t over its probability. 0 where nothing flows in.
///
/// For the hybrid process it is 1 / (t (1 - t)) at a mask, (c + (1 - t) c') / ((1 - t) c) at another token, and
/// (c + (1 - t) c') / N / ((1 - t) ((1 - t) + c / N)) at x_0.
///
/// # Source
/// von Rütte et al. (2025), GIDD, the ELBO; `docs/derivations/hybrid.md`, section 3.
pub fn weight(process: &impl Interpolating, x_0: u32, x_t: u32, t: f64) -> f64 {
    let mask = process.mask();
    let inflow = process.inflow(t).of(x_t, mask);
    let own = if x_t == x_0 { process.alpha_bar(t) } else { 0.0 };
    if inflow > 0.0 { inflow / (own + process.noise(t).of(x_t, mask)) } else { 0.0 }
}

/// One token of the bound in nats, its integrand over t for the given weight: `weight` \[KL(q_t || p_t) + r - log r - 1\] with
/// q_t = q(x_t | x_0), p_t = alpha_bar_t p + noise_t for p = softmax(logits without the mask), and r = q_t(x_t) / p_t(x_t).
///
/// With [`weight`] it is the bound: T times the KL of one of T posterior steps, in the limit. Other weights train better
/// ([`Weighting`]). Where the weight is 0 or no signal is left it is 0.
///
/// # Shapes
/// `logits` and `dlogits` \[vocab\]; the gradient at the mask is 0.
///
/// # Panics
/// If an id is outside `logits`.
///
/// # Source
/// von Rütte et al. (2025), GIDD, the ELBO; `docs/derivations/hybrid.md`, section 4.
pub fn nelbo(
    process: &impl Interpolating,
    logits: &[f64],
    x_0: u32,
    x_t: u32,
    t: f64,
    weight: f64,
    dlogits: Option<&mut [f64]>,
) -> f64 {
    let (mask, alpha_bar, noise) = (process.mask(), process.alpha_bar(t), process.noise(t));
    let (clean, z, other) = (x_0 as usize, x_t as usize, noise.other);
    assert!(clean < logits.len() && z < logits.len(), "interpolating: id outside the logits");
    if weight == 0.0 || alpha_bar <= 0.0 {
        if let Some(dlogits) = dlogits {
            dlogits.fill(0.0);
        }
        return 0.0;
    }
    let row = Softmax::new(logits, mask);
    // KL(q || p): ids other than x_0 have q = noise; the mask has q = p.
    let own = alpha_bar + other;
    let log_p_own = row.log_mixed(clean, alpha_bar, other);
    let mut kl = own * (own.ln() - log_p_own);
    if other > 0.0 {
        let others = process.others() as f64;
        kl += other * (others * other.ln() - row.sum_log_mixed(alpha_bar, other)) - other * (other.ln() - log_p_own);
    }
    // r - log r - 1 at x_t, which is 0 at the mask.
    let seen = if x_t == x_0 { own } else { other };
    let log_ratio = if mask == Some(x_t) { 0.0 } else { seen.ln() - row.log_mixed(z, alpha_bar, other) };
    let surprise = log_ratio.exp_m1() - log_ratio;
    if let Some(dlogits) = dlogits {
        let mut total = 0.0;
        for (k, d) in dlogits.iter_mut().enumerate() {
            // The slope with respect to log p_t(k), and of that with respect to log p_k.
            let q = if k == clean { own } else { other };
            let slope = if k == z && mask != Some(x_t) { -q - log_ratio.exp_m1() } else { -q };
            let share = if mask == Some(k as u32) {
                0.0
            } else {
                (alpha_bar.ln() + row.log_p(k) - row.log_mixed(k, alpha_bar, other)).exp()
            };
            *d = if slope == 0.0 { 0.0 } else { weight * slope * share };
            total += *d;
        }
        for (k, d) in dlogits.iter_mut().enumerate() {
            *d -= row.p(k) * total;
        }
    }
    weight * (kl + surprise)
}

/// How GIDD weighs tokens in training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Weighting {
    /// As in the bound.
    #[default]
    Bound,
    /// As in the bound, clipped.
    Clip {
        /// The smallest weight.
        min: f64,
        /// The largest weight.
        max: f64,
    },
    /// 2 for masks, 1 for other wrong tokens, B / V exp(gamma / 2 sigmoid(-t)) for right ones, clipped.
    ///
    /// The paper has exp(-log_snr / 2) for the last factor; this is what its code trains with.
    Dynamic {
        /// The smallest weight.
        min: f64,
        /// The largest weight.
        max: f64,
    },
}

impl Weighting {
    /// The weight of one token.
    ///
    /// # Source
    /// von Rütte et al. (2025), GIDD, the weighting; `GiddLoss` of its code.
    pub fn weight(self, process: &Hybrid, x_0: u32, x_t: u32, t: f64) -> f64 {
        match self {
            Self::Bound => weight(process, x_0, x_t, t),
            // max and min, not clamp: bounds out of order then give max instead of a panic.
            Self::Clip { min, max } => weight(process, x_0, x_t, t).max(min).min(max),
            Self::Dynamic { min, max } => {
                let raw = if x_t == x_0 {
                    let vocab = (process.others() + 1) as f64;
                    let schedule = process.schedule();
                    schedule.b() / vocab * (0.5 * schedule.gamma() / (1.0 + t.exp())).exp()
                } else if process.mask() == Some(x_t) {
                    2.0
                } else {
                    1.0
                };
                raw.max(min).min(max)
            }
        }
    }
}
