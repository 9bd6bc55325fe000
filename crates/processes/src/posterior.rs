//! The posterior of a categorical process, and its KL from a model's.

use crate::categorical::ratio;
use crate::{Categorical, Limit};

impl Categorical {
    /// Writes q(x_s | x_t, p), the posterior for a clean-token distribution `p_x_0` (a one-hot one for a known x_0):
    /// (p Q_bar_s) ⊙ Q_ts\[:, x_t\], normalised.
    ///
    /// With alpha_bar_s = 1 this is p reweighted by the likelihood of x_t. Under the mask limit a token that is not
    /// masked stays. An x_t that the process could not have produced (no noise, p zero at x_t) stays as well.
    ///
    /// # Shapes
    /// `p_x_0` and `q_s` \[vocab\]; `p_x_0` sums to 1.
    ///
    /// # Panics
    /// If a slice is not \[vocab\] long or `x_t` is outside the vocabulary.
    ///
    /// # Source
    /// Austin et al. (2021), equations 3 and 4; Schiff et al. (2024), UDLM (the uniform case).
    pub fn posterior(&self, alpha_bar_t: f64, alpha_bar_s: f64, x_t: u32, p_x_0: &[f64], q_s: &mut [f64]) {
        assert_eq!(p_x_0.len(), self.vocab(), "posterior: p_x_0 must have one probability per id");
        assert_eq!(q_s.len(), self.vocab(), "posterior: q_s must have one probability per id");
        let bayes = Bayes::new(self, alpha_bar_t, alpha_bar_s, x_t);
        let mut total = 0.0;
        for (k, (q, &p)) in q_s.iter_mut().zip(p_x_0).enumerate() {
            *q = bayes.joint(k as u32, p);
            total += *q;
        }
        if total > 0.0 && !self.stays(x_t) {
            q_s.iter_mut().for_each(|q| *q /= total);
        } else {
            q_s.fill(0.0);
            q_s[x_t as usize] = 1.0;
        }
    }

    /// KL(q(x_s | x_t, x_0) || q(x_s | x_t, p)) in nats, without a buffer.
    ///
    /// Infinite where p excludes what x_0 allows.
    ///
    /// # Panics
    /// If `p_x_0` is not \[vocab\] long.
    pub fn posterior_kl(&self, alpha_bar_t: f64, alpha_bar_s: f64, x_t: u32, x_0: u32, p_x_0: &[f64]) -> f64 {
        assert_eq!(p_x_0.len(), self.vocab(), "posterior_kl: p_x_0 must have one probability per id");
        Bayes::new(self, alpha_bar_t, alpha_bar_s, x_t).kl(x_0, p_x_0)
    }

    /// Whether nothing can change at x_t: a token that the mask process has not masked.
    fn stays(&self, x_t: u32) -> bool {
        matches!(self.limit(), Limit::Mask(mask) if mask != x_t)
    }
}

/// The joint probability q(x_s = k, x_t) for a clean-token distribution, up to nothing.
struct Bayes<'a> {
    process: &'a Categorical,
    x_t: u32,
    r: f64,
    away: f64,
    alpha_bar_s: f64,
}

impl<'a> Bayes<'a> {
    fn new(process: &'a Categorical, alpha_bar_t: f64, alpha_bar_s: f64, x_t: u32) -> Self {
        assert!((x_t as usize) < process.vocab(), "token {x_t} is outside the vocabulary of {} ids", process.vocab());
        let r = ratio(alpha_bar_t, alpha_bar_s);
        Self { process, x_t, r, away: (1.0 - r) * process.pi(x_t), alpha_bar_s }
    }

    /// Q_ts\[k, x_t\]: the likelihood of x_t.
    #[inline]
    fn likelihood(&self, k: u32) -> f64 {
        if k == self.x_t { self.r + self.away } else { self.away }
    }

    /// (p Q_bar_s)\[k\]: the marginal at s.
    #[inline]
    fn marginal(&self, k: u32, p: f64) -> f64 {
        self.alpha_bar_s * p + (1.0 - self.alpha_bar_s) * self.process.pi(k)
    }

    #[inline]
    fn joint(&self, k: u32, p: f64) -> f64 {
        self.likelihood(k) * self.marginal(k, p)
    }

    /// KL of the posterior of `x_0` from that of the distribution `p`.
    fn kl(&self, x_0: u32, p: &[f64]) -> f64 {
        let hot = |k: usize| f64::from(u8::from(k == x_0 as usize));
        let (mut q_total, mut p_total) = (0.0, 0.0);
        for (k, &p) in p.iter().enumerate() {
            q_total += self.joint(k as u32, hot(k));
            p_total += self.joint(k as u32, p);
        }
        if self.process.stays(self.x_t) || q_total <= 0.0 {
            return 0.0;
        }
        let mut nats = 0.0;
        for (k, &p) in p.iter().enumerate() {
            let q = self.joint(k as u32, hot(k)) / q_total;
            if q > 0.0 {
                nats += q * (q * p_total / self.joint(k as u32, p)).ln();
            }
        }
        nats
    }
}
