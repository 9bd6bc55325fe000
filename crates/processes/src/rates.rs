//! Processes in continuous time, run backwards: rates of jumping.

use crate::Interpolating;
use crate::categorical::ratio;

/// Writes the rates at which x_s turns into every id, a row of the forward rate matrix: to another id its inflow, and at x_s
/// minus their sum.
///
/// # Shapes
/// `rates` \[vocab\].
///
/// # Panics
/// If `x_s` is outside.
pub fn rates_from(process: &impl Interpolating, t: f64, x_s: u32, rates: &mut [f64]) {
    let (inflow, mask) = (process.inflow(t), process.mask());
    rates.iter_mut().enumerate().for_each(|(k, rate)| *rate = inflow.of(k as u32, mask));
    leave(x_s, rates);
}

/// Writes the rates at which every id turns into x_t, a column of the forward rate matrix.
///
/// # Shapes
/// `rates` \[vocab\].
///
/// # Panics
/// If `x_t` is outside.
pub fn rates_into(process: &impl Interpolating, t: f64, x_t: u32, rates: &mut [f64]) {
    // The entry at x_t is that of its row: minus the rate of leaving it.
    rates_from(process, t, x_t, rates);
    let own = rates[x_t as usize];
    rates.fill(process.inflow(t).of(x_t, process.mask()));
    rates[x_t as usize] = own;
}

/// Puts minus the sum of the other rates at x.
fn leave(x: u32, rates: &mut [f64]) {
    rates[x as usize] = 0.0;
    let total: f64 = rates.iter().sum();
    rates[x as usize] = -total;
}

/// Writes the rates of the reversed chain from x_t: to every other id y the inflow of x_t times the ratio p_t(y) / p_t(x_t), and at
/// x_t minus their sum.
///
/// A step of length h jumps with rates times h: SEDD's Euler sampler.
///
/// # Shapes
/// `log_score` (the ratios' logarithms; its entry at x_t is not used) and `rates` \[vocab\].
///
/// # Panics
/// If the slices differ in length or `x_t` is outside.
///
/// # Source
/// Lou, Meng, Ermon (2024), SEDD, the reverse process; `docs/derivations/rates.md`, section 1.
pub fn reverse_rates(process: &impl Interpolating, t: f64, x_t: u32, log_score: &[f64], rates: &mut [f64]) {
    assert_eq!(log_score.len(), rates.len(), "reverse_rates: one rate per score");
    let inflow = process.inflow(t).of(x_t, process.mask());
    for (rate, log_s) in rates.iter_mut().zip(log_score) {
        // A token that nothing flows into has come from nowhere else, whatever the score says.
        *rate = if inflow > 0.0 { inflow * log_s.exp() } else { 0.0 };
    }
    leave(x_t, rates);
}

/// Turns the ratios p_t(y) / p_t(x_t) in place into p_s(y) / p_t(x_t), by undoing the step from s to t.
///
/// Times the likelihood of x_t ([`TokenProcess::weigh`](crate::TokenProcess::weigh)) this is the posterior q(x_s | x_t) that the
/// score implies: SEDD's Tweedie or "analytic" sampler. A score that no distribution has can give negative entries.
///
/// # Shapes
/// `score` \[vocab\], the entry at x_t being 1.
///
/// # Source
/// Lou, Meng, Ermon (2024), SEDD, the discrete Tweedie theorem (`staggered_score` of its code); `docs/derivations/rates.md`, section 2.
pub fn undo_step(process: &impl Interpolating, t: f64, s: f64, score: &mut [f64]) {
    let (r, mask) = (ratio(process.alpha_bar(t), process.alpha_bar(s)), process.mask());
    let (now, before) = (process.noise(t), process.noise(s));
    let total: f64 = score.iter().sum();
    for (k, score) in score.iter_mut().enumerate() {
        let inflow = now.of(k as u32, mask) - r * before.of(k as u32, mask);
        *score = (*score - inflow * total) / r;
    }
}

/// The rates, towards the data, at which discrete flow matching moves a token whose clean value is guessed as x_0:
/// u(y) = `to_x_0` \[y = x_0\] + `to_noise` pi(y) for y != x_t.
///
/// # Source
/// Gat et al. (2024), "Discrete flow matching", the generating velocities and the corrector; `docs/derivations/rates.md`, section 3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowRates {
    /// The rate of a jump to x_0.
    pub to_x_0: f64,
    /// The rate of a fresh draw from the source pi.
    pub to_noise: f64,
}

impl FlowRates {
    /// The rates of the mixture path at kappa = `alpha_bar` with the `slope` kappa' = -alpha_bar': its time runs towards the
    /// data.
    ///
    /// The velocity alone is kappa' / (1 - kappa) to x_0. `correction` times the divergence-free field
    /// kappa' / (kappa (1 - kappa)) (kappa \[y = x_0\] + (1 - kappa) pi(y)) is added: it is in proportion to the path's own
    /// distribution, which it therefore leaves alone, while it lets a token that was guessed wrongly move on. Where the path
    /// stands still there are no jumps.
    pub fn new(alpha_bar: f64, slope: f64, correction: f64) -> Self {
        let over = |divisor: f64| if slope > 0.0 { slope / divisor } else { 0.0 };
        let to_noise = if correction > 0.0 { correction * over(alpha_bar) } else { 0.0 };
        Self { to_x_0: (1.0 + correction) * over(1.0 - alpha_bar), to_noise }
    }

    /// The rate of jumping to `y`, where `pi_y` is the source's probability of it; 0 for staying.
    #[inline]
    pub fn rate(&self, x_0: u32, x_t: u32, y: u32, pi_y: f64) -> f64 {
        if y == x_t {
            return 0.0;
        }
        let jump = if y == x_0 { self.to_x_0 } else { 0.0 };
        jump + self.to_noise * pi_y
    }

    /// The rate of leaving x_t, the sum of [`rate`](Self::rate) over all y.
    pub fn intensity(&self, x_0: u32, x_t: u32, pi_x_t: f64) -> f64 {
        let jump = if x_0 == x_t { 0.0 } else { self.to_x_0 };
        jump + self.to_noise * (1.0 - pi_x_t)
    }
}
