//! The bound of a chain of T steps: KL between posteriors, with an auxiliary cross-entropy.

use super::{log_sum_exp, softmax_backward};
use crate::Categorical;
use crate::posterior::Bayes;

/// One token of D3PM's loss in nats: KL(q(x_s | x_t, x_0) || q(x_s | x_t, p)) + `lambda` CE(p, x_0), p = softmax(logits).
///
/// The step into clean data (alpha_bar_s = 1) is the reconstruction -log p(x_0 | x_t) alone when written as D3PM does;
/// here it is the same KL as every other step, which equals the cross-entropy of the *reweighted* p. Use
/// [`cross_entropy`] for D3PM's t = 0 term. For a bound multiply the KL of a random step by the number of steps.
///
/// # Shapes
/// `logits` and `dlogits` \[vocab\].
///
/// # Panics
/// If a slice is not \[vocab\] long or an id is outside.
///
/// # Source
/// Austin et al. (2021), D3PM, equation 5 (lambda = 0.01 for masked text, 0 for uniform).
#[expect(clippy::too_many_arguments, reason = "the arguments of the paper's equation")]
pub fn loss(
    process: &Categorical,
    logits: &[f64],
    x_0: u32,
    x_t: u32,
    alpha_bar_t: f64,
    alpha_bar_s: f64,
    lambda: f64,
    dlogits: Option<&mut [f64]>,
) -> f64 {
    assert_eq!(logits.len(), process.vocab(), "d3pm: there must be one logit per id");
    let total = log_sum_exp(logits, None);
    let p = |k: usize| (logits[k] - total).exp();
    let hot = |k: usize| f64::from(u8::from(k == x_0 as usize));
    let ce = total - logits[x_0 as usize];
    let bayes = Bayes::new(process, alpha_bar_t, alpha_bar_s, x_t);
    let kl = bayes.kl(x_0, p);
    if let Some(dlogits) = dlogits {
        for (k, d) in dlogits.iter_mut().enumerate() {
            *d = 0.0;
            if kl.q_total > 0.0 {
                // d log(total)/dp_k is the likelihood of x_t through k; the numerator's is through its own marginal.
                let q = bayes.joint(k as u32, hot(k)) / kl.q_total;
                let own = if q > 0.0 { q / bayes.marginal(k as u32, p(k)) } else { 0.0 };
                *d = alpha_bar_s * (bayes.likelihood(k as u32) / kl.p_total - own);
            }
        }
        softmax_backward(p, dlogits);
        for (k, d) in dlogits.iter_mut().enumerate() {
            *d += lambda * (p(k) - hot(k));
        }
    }
    if lambda == 0.0 { kl.nats } else { kl.nats + lambda * ce }
}

/// -log softmax(logits)\[x_0\] in nats, with its gradient softmax(logits) - x_0.
///
/// # Panics
/// If `x_0` is outside `logits`.
pub fn cross_entropy(logits: &[f64], x_0: u32, dlogits: Option<&mut [f64]>) -> f64 {
    let total = log_sum_exp(logits, None);
    if let Some(dlogits) = dlogits {
        for (d, &logit) in dlogits.iter_mut().zip(logits) {
            *d = (logit - total).exp();
        }
        dlogits[x_0 as usize] -= 1.0;
    }
    total - logits[x_0 as usize]
}
