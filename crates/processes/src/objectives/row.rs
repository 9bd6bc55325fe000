//! One row of logits as the probabilities that every categorical objective reads.

use super::log_sum_exp;

/// softmax(logits), one id left out if asked: one pass over the row for its log-sum-exp, and from then on every question is
/// a look-up.
#[derive(Clone, Copy, Debug)]
pub struct Softmax<'a> {
    logits: &'a [f64],
    total: f64,
    without: Option<u32>,
}

impl<'a> Softmax<'a> {
    /// The probabilities of `logits` \[vocab\], none for the id `without`.
    pub fn new(logits: &'a [f64], without: Option<u32>) -> Self {
        Self { logits, total: log_sum_exp(logits, without), without }
    }

    /// log p_k, `-inf` for the id left out.
    #[inline]
    pub fn log_p(&self, k: usize) -> f64 {
        if self.without == Some(k as u32) { f64::NEG_INFINITY } else { self.logits[k] - self.total }
    }

    /// p_k.
    #[inline]
    pub fn p(&self, k: usize) -> f64 {
        self.log_p(k).exp()
    }

    /// log(a p_k + b): the log-probability under noise. Exact for small p_k where b = 0.
    #[inline]
    pub fn log_mixed(&self, k: usize, a: f64, b: f64) -> f64 {
        if b > 0.0 { (a * self.p(k) + b).ln() } else { a.ln() + self.log_p(k) }
    }

    /// Σ_k log(a p_k + b) over all ids but the one left out: the second and last pass over the row.
    pub fn sum_log_mixed(&self, a: f64, b: f64) -> f64 {
        let kept = (0..self.logits.len()).filter(|k| self.without != Some(*k as u32));
        kept.map(|k| self.log_mixed(k, a, b)).sum()
    }

    /// The gradient with respect to the logits from that with respect to the probabilities: p ⊙ (dp - ⟨p, dp⟩), over `dp`.
    pub fn backward(&self, dp: &mut [f64]) {
        // An infinite slope at a probability of 0 has no effect; 0 times it would be NaN.
        let inner: f64 = dp.iter().enumerate().map(|(k, g)| product(self.p(k), *g)).sum();
        for (k, g) in dp.iter_mut().enumerate() {
            *g = product(self.p(k), *g - inner);
        }
    }
}

fn product(p: f64, g: f64) -> f64 {
    if p > 0.0 { p * g } else { 0.0 }
}
