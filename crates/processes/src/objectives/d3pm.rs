//! The bound of a chain of T steps: KL between posteriors, with an auxiliary cross-entropy.

use super::row::Softmax;
use crate::TokenProcess;

/// Buffers of [`loss`], for rows of one vocabulary.
#[derive(Clone, Debug)]
pub struct Scratch {
    p: Vec<f64>,
    q: Vec<f64>,
    marginal: Vec<f64>,
    likelihood: Vec<f64>,
}

impl Scratch {
    /// Buffers for `vocab` ids.
    pub fn new(vocab: usize) -> Self {
        let row = || vec![0.0; vocab];
        Self { p: row(), q: row(), marginal: row(), likelihood: row() }
    }
}

/// One token of D3PM's loss in nats: KL(q(x_s | x_t, x_0) || q(x_s | x_t, p)) + `lambda` CE(p, x_0), p = softmax(logits), for
/// any process. Nothing is lost, and nothing learned from the KL, where x_0 cannot lead to x_t.
///
/// The step into clean data (alpha_bar_s = 1) is the reconstruction -log p(x_0 | x_t) alone when written as D3PM does;
/// here it is the same KL as every other step, which equals the cross-entropy of the *reweighted* p. Use
/// [`cross_entropy`] for D3PM's t = 0 term. For a bound multiply the KL of a random step by the number of steps.
///
/// # Shapes
/// `logits` and `dlogits` \[vocab\]; `scratch` for as many ids.
///
/// # Panics
/// If a slice is not \[vocab\] long or an id is outside.
///
/// # Source
/// Austin et al. (2021), D3PM, equation 5 (lambda = 0.01 for masked text, 0 for uniform).
#[expect(clippy::too_many_arguments, reason = "the arguments of the paper's equation")]
pub fn loss<P: TokenProcess + ?Sized>(
    process: &P,
    logits: &[f64],
    x_0: u32,
    x_t: u32,
    t: f64,
    s: f64,
    lambda: f64,
    scratch: &mut Scratch,
    dlogits: Option<&mut [f64]>,
) -> f64 {
    assert_eq!(logits.len(), process.vocab(), "d3pm: there must be one logit per id");
    let Scratch { p, q, marginal, likelihood } = scratch;
    let row = Softmax::new(logits, None);
    let ce = -row.log_p(x_0 as usize);
    // The truth: q(x_s | x_t, x_0), with its normaliser.
    p.fill(0.0);
    p[x_0 as usize] = 1.0;
    process.marginal(s, p, q);
    process.weigh(t, s, x_t, q);
    let q_total: f64 = q.iter().sum();
    // The model's: p Q_bar_s and the likelihood of x_t apart, since both enter the gradient.
    p.iter_mut().enumerate().for_each(|(k, p)| *p = row.p(k));
    process.marginal(s, p, marginal);
    likelihood.fill(1.0);
    process.weigh(t, s, x_t, likelihood);
    let p_total: f64 = marginal.iter().zip(likelihood.iter()).map(|(m, l)| m * l).sum();
    let mut kl = 0.0;
    if q_total > 0.0 {
        for ((q, m), l) in q.iter_mut().zip(marginal.iter_mut()).zip(likelihood.iter()) {
            *q /= q_total;
            if *q > 0.0 {
                kl += *q * (*q * p_total / (*m * l)).ln();
            }
            // d KL / d marginal, over the marginal: through the normaliser and through the id's own probability.
            *m = l / p_total - if *q > 0.0 { *q / *m } else { 0.0 };
        }
    }
    if let Some(dlogits) = dlogits {
        if q_total > 0.0 {
            process.average(s, marginal, dlogits);
            row.backward(dlogits);
        } else {
            dlogits.fill(0.0);
        }
        for (d, p) in dlogits.iter_mut().zip(p.iter()) {
            *d += lambda * p;
        }
        dlogits[x_0 as usize] -= lambda;
    }
    if lambda == 0.0 { kl } else { kl + lambda * ce }
}

/// -log softmax(logits)\[x_0\] in nats, with its gradient softmax(logits) - x_0.
///
/// # Panics
/// If `x_0` is outside `logits`.
pub fn cross_entropy(logits: &[f64], x_0: u32, dlogits: Option<&mut [f64]>) -> f64 {
    let row = Softmax::new(logits, None);
    if let Some(dlogits) = dlogits {
        for (k, d) in dlogits.iter_mut().enumerate() {
            *d = row.p(k);
        }
        dlogits[x_0 as usize] -= 1.0;
    }
    -row.log_p(x_0 as usize)
}
