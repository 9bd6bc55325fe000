//! One reverse step, as data.

/// One reverse step of a categorical process, from time `t` down to `s`.
///
/// Given the noisy token x_t and a clean token x_0, the next token is x_t with probability `keep`, x_0 with `jump`, and
/// a draw from the limit distribution with `draw`; the three sum to 1. For the mask limit at a masked position, and for
/// the uniform limit where x_t differs from x_0, this *is* the posterior q(x_s | x_t, x_0). Where a uniform chain has
/// x_t = x_0 the posterior redraws with probability [`redraw_on_hit`](Self::redraw_on_hit) and else keeps the token; a
/// position that is not masked never changes under the mask limit.
///
/// # Source
/// `docs/derivations/categorical.md`, sections 5 and 6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CategoricalStep {
    /// The time before the step.
    pub t: f64,
    /// The time after the step, s < t.
    pub s: f64,
    /// The probability of keeping x_t.
    pub keep: f64,
    /// The probability of jumping to x_0.
    pub jump: f64,
    /// The probability of a draw from the limit distribution.
    pub draw: f64,
}

impl CategoricalStep {
    /// The probability that a uniform chain over `vocab` ids redraws a token with x_t = x_0 (it else keeps it).
    ///
    /// draw² / (vocab · keep · jump + draw), which equals (1 - r)(1 - alpha_bar_s) / (vocab alpha_bar_t + 1 - alpha_bar_t).
    ///
    /// # Source
    /// `docs/derivations/categorical.md`, section 5.
    pub fn redraw_on_hit(&self, vocab: usize) -> f64 {
        if self.draw <= 0.0 {
            return 0.0;
        }
        self.draw * self.draw / (vocab as f64 * self.keep * self.jump + self.draw)
    }
}

/// One reverse step of a Gaussian process, from time `t` down to `s`:
/// x_s = `c_t` x_t + `c_0` x_0_hat + `sigma` noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianStep {
    /// The time before the step.
    pub t: f64,
    /// The time after the step, s < t.
    pub s: f64,
    /// The coefficient of the predicted clean value.
    pub c_0: f64,
    /// The coefficient of the noisy value.
    pub c_t: f64,
    /// The standard deviation of the fresh noise.
    pub sigma: f64,
}

impl GaussianStep {
    /// The step applied to one number, `noise` being a standard normal.
    pub fn apply(&self, x_t: f64, x_0_hat: f64, noise: f64) -> f64 {
        self.c_t * x_t + self.c_0 * x_0_hat + self.sigma * noise
    }
}
