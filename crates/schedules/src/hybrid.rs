//! The schedule of two noises at once: a mask and, on the way, uniform tokens.

use crate::Schedule;
use crate::error::{Error, parameter};

/// alpha_bar(t) = (1 - t) / C(t), a mask with probability t / C(t) and another token with c(t) / C(t), where
/// c(t) = B (t (1 - t))^(gamma/2), C(t) = 1 + c(t) and B = 2^gamma p_uniform / (1 - p_uniform).
///
/// At t = 1/2 a share `p_uniform` of all tokens is uniform noise; at both ends there is none. p_uniform = 0 is
/// [`Linear`](crate::Linear) for every gamma. A `gamma` above 2 would take back uniform tokens near t = 1 faster than masks
/// cover them, which no Markov chain does.
///
/// ```
/// use galatea_schedules::{Hybrid, Schedule};
/// let schedule = Hybrid::new(0.2, 1.0)?;
/// let [mask, uniform] = schedule.noises(0.5);
/// assert!((uniform - 0.2).abs() < 1e-15 && (mask - 0.4).abs() < 1e-15);
/// assert!((schedule.alpha_bar(0.5) + mask + uniform - 1.0).abs() < 1e-15);
/// # Ok::<(), galatea_schedules::Error>(())
/// ```
///
/// # Source
/// von Rütte et al. (2025), "Generalized interpolating discrete diffusion" (GIDD), its mask and uniform noise; `docs/derivations/hybrid.md`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hybrid {
    pub(crate) p_uniform: f64,
    pub(crate) gamma: f64,
    b: f64,
}

impl Hybrid {
    /// The schedule with a share `p_uniform` in [0, 1) of uniform tokens at t = 1/2, and `gamma` in (0, 2].
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other value.
    pub fn new(p_uniform: f64, gamma: f64) -> Result<Self, Error> {
        parameter("hybrid", "p_uniform", "in [0, 1)", p_uniform, (0.0..1.0).contains(&p_uniform))?;
        parameter("hybrid", "gamma", "above 0 and at most 2", gamma, gamma > 0.0 && gamma <= 2.0)?;
        Ok(Self { p_uniform, gamma, b: gamma.exp2() * p_uniform / (1.0 - p_uniform) })
    }

    /// B, the uniform tokens at t = 1/2 over 2^-gamma, before normalisation.
    pub fn b(&self) -> f64 {
        self.b
    }

    /// How fast uniform tokens come and go.
    pub fn gamma(&self) -> f64 {
        self.gamma
    }

    /// c(t), the uniform tokens before normalisation.
    fn c(&self, t: f64) -> f64 {
        if self.b == 0.0 { 0.0 } else { self.b * (t * (1.0 - t)).powf(0.5 * self.gamma) }
    }

    /// (1 - t)^power d/dt (c / (1 - t)) for c / (1 - t) = B t^(gamma/2) (1 - t)^(gamma/2 - 1), multiplied out.
    fn c_inflow(&self, t: f64, power: f64) -> f64 {
        if self.b == 0.0 {
            return 0.0;
        }
        let half = 0.5 * self.gamma;
        self.b * t.powf(half - 1.0) * (1.0 - t).powf(half - 2.0 + power) * (half + t * (1.0 - self.gamma))
    }

    /// The probabilities of a mask and of a uniform token at `t`; with alpha_bar they sum to 1.
    pub fn noises(&self, t: f64) -> [f64; 2] {
        let t = t.clamp(0.0, 1.0);
        let c = self.c(t);
        [t / (1.0 + c), c / (1.0 + c)]
    }

    /// The rates at which any token turns into a mask and into a uniform token, alpha_bar d/dt (noises / alpha_bar).
    ///
    /// At t = 1 the first is infinite: what is left becomes a mask. For gamma < 2 the second is infinite at both ends.
    pub fn inflow(&self, t: f64) -> [f64; 2] {
        let t = t.clamp(0.0, 1.0);
        let total = 1.0 + self.c(t);
        [1.0 / ((1.0 - t) * total), self.c_inflow(t, 1.0) / total]
    }
}

impl Schedule for Hybrid {
    fn alpha_bar(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        (1.0 - t) / (1.0 + self.c(t))
    }
    fn noise(&self, t: f64) -> f64 {
        let [mask, uniform] = self.noises(t);
        mask + uniform
    }
    fn rate(&self, t: f64) -> f64 {
        // What leaves is what flows in: the rows of a rate matrix sum to 0.
        let [mask, uniform] = self.inflow(t);
        mask + uniform
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        let total = 1.0 + self.c(t);
        // rate alpha_bar, with the powers of 1 - t multiplied out.
        let uniform = self.c_inflow(t, 2.0);
        -(1.0 + uniform) / (total * total)
    }
}
