//! Schedules given by their rate, their total noise or their log-SNR, as continuous processes are.

use crate::Schedule;
use crate::error::{Error, parameter};

/// beta(t) = beta_min + (beta_max - beta_min) t, alpha_bar(t) = exp(-∫ beta): the VP-SDE and the limit of DDPM's
/// linear betas.
///
/// # Source
/// Song et al. (2021), "Score-based generative modeling through stochastic differential equations", the VP-SDE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearBeta {
    pub(crate) beta_min: f64,
    pub(crate) beta_max: f64,
}

impl LinearBeta {
    /// The schedule with rates 0 <= `beta_min` <= `beta_max` at the two ends, `beta_max` above 0.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other value.
    pub fn new(beta_min: f64, beta_max: f64) -> Result<Self, Error> {
        parameter("linear-beta", "beta_min", "at least 0", beta_min, beta_min >= 0.0)?;
        let holds = beta_max >= beta_min && beta_max > 0.0;
        parameter("linear-beta", "beta_max", "above 0 and at least beta_min", beta_max, holds)?;
        Ok(Self { beta_min, beta_max })
    }
}

impl Default for LinearBeta {
    /// 0.1 to 20: a thousand steps of 1e-4 to 0.02.
    fn default() -> Self {
        Self { beta_min: 0.1, beta_max: 20.0 }
    }
}

impl Schedule for LinearBeta {
    fn alpha_bar(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        (-(self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t)).exp()
    }
    fn rate(&self, t: f64) -> f64 {
        self.beta_min + (self.beta_max - self.beta_min) * t.clamp(0.0, 1.0)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        let (sigma, slope) = (-alpha_bar.max(0.0).ln(), self.beta_max - self.beta_min);
        // The root of slope/2 t^2 + beta_min t = sigma in the form that survives slope = 0.
        let root = (self.beta_min * self.beta_min + 2.0 * slope * sigma.max(0.0)).sqrt();
        if sigma <= 0.0 { 0.0 } else { (2.0 * sigma / (self.beta_min + root)).min(1.0) }
    }
}

/// sigma(t) = sigma_min + (sigma_max - sigma_min) t, alpha_bar = exp(-sigma): a constant rate.
///
/// # Source
/// MDLM's "linear" noise; with sigma_min = 0 the time-homogeneous chain of Campbell et al. (2022).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearSigma {
    pub(crate) sigma_min: f64,
    pub(crate) sigma_max: f64,
}

impl LinearSigma {
    /// The schedule with total noise 0 <= `sigma_min` < `sigma_max` at the two ends.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other value.
    pub fn new(sigma_min: f64, sigma_max: f64) -> Result<Self, Error> {
        parameter("linear-sigma", "sigma_min", "at least 0", sigma_min, sigma_min >= 0.0)?;
        parameter("linear-sigma", "sigma_max", "above sigma_min", sigma_max, sigma_max > sigma_min)?;
        Ok(Self { sigma_min, sigma_max })
    }
}

impl Default for LinearSigma {
    /// 0 to 10, as in MDLM.
    fn default() -> Self {
        Self { sigma_min: 0.0, sigma_max: 10.0 }
    }
}

impl Schedule for LinearSigma {
    fn alpha_bar(&self, t: f64) -> f64 {
        (-(self.sigma_min + (self.sigma_max - self.sigma_min) * t.clamp(0.0, 1.0))).exp()
    }
    fn rate(&self, _: f64) -> f64 {
        self.sigma_max - self.sigma_min
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        let sigma = -alpha_bar.max(0.0).ln();
        ((sigma - self.sigma_min) / (self.sigma_max - self.sigma_min)).clamp(0.0, 1.0)
    }
}

/// sigma(t) = sigma_min^(1-t) sigma_max^t, alpha_bar = exp(-sigma): SEDD's schedule for the uniform process.
///
/// # Source
/// Lou, Meng, Ermon (2024), SEDD, "geometric noise".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometric {
    pub(crate) sigma_min: f64,
    pub(crate) sigma_max: f64,
}

impl Geometric {
    /// The schedule with total noise 0 < `sigma_min` < `sigma_max` at the two ends.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other value.
    pub fn new(sigma_min: f64, sigma_max: f64) -> Result<Self, Error> {
        parameter("geometric", "sigma_min", "above 0", sigma_min, sigma_min > 0.0)?;
        parameter("geometric", "sigma_max", "above sigma_min", sigma_max, sigma_max > sigma_min)?;
        Ok(Self { sigma_min, sigma_max })
    }

    fn sigma(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        self.sigma_min.powf(1.0 - t) * self.sigma_max.powf(t)
    }
}

impl Default for Geometric {
    /// 1e-4 to 20, as in SEDD.
    fn default() -> Self {
        Self { sigma_min: 1e-4, sigma_max: 20.0 }
    }
}

impl Schedule for Geometric {
    fn alpha_bar(&self, t: f64) -> f64 {
        (-self.sigma(t)).exp()
    }
    fn rate(&self, t: f64) -> f64 {
        self.sigma(t) * (self.sigma_max.ln() - self.sigma_min.ln())
    }
    fn log_snr(&self, t: f64) -> f64 {
        -self.sigma(t).exp_m1().ln()
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        let sigma = -alpha_bar.clamp(0.0, 1.0).ln();
        ((sigma / self.sigma_min).ln() / (self.sigma_max / self.sigma_min).ln()).clamp(0.0, 1.0)
    }
}

/// log SNR(t) = max + (min - max) t, alpha_bar = sigmoid(log SNR).
///
/// VDM's fixed schedule and Plaid's before it is learned; also the variance-exploding noise
/// sigma_min^(1-t) sigma_max^t seen as a VP process, with log SNR = -2 log sigma.
///
/// # Source
/// Kingma et al. (2021), "Variational diffusion models" (gamma = -log SNR).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearLogSnr {
    pub(crate) max: f64,
    pub(crate) min: f64,
}

impl LinearLogSnr {
    /// The schedule with log-SNR `max` at t = 0 and `min` < `max` at t = 1.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other value.
    pub fn new(max: f64, min: f64) -> Result<Self, Error> {
        parameter("log-snr", "max", "finite", max, true)?;
        parameter("log-snr", "min", "below max", min, min < max)?;
        Ok(Self { max, min })
    }

    /// The noise levels of a variance-exploding process, `sigma_min` < `sigma_max`, spaced geometrically.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < `sigma_min` < `sigma_max`.
    pub fn variance_exploding(sigma_min: f64, sigma_max: f64) -> Result<Self, Error> {
        parameter("log-snr", "sigma_min", "above 0", sigma_min, sigma_min > 0.0)?;
        parameter("log-snr", "sigma_max", "above sigma_min", sigma_max, sigma_max > sigma_min)?;
        Self::new(-2.0 * sigma_min.ln(), -2.0 * sigma_max.ln())
    }
}

impl Default for LinearLogSnr {
    /// 13.3 to -5, as in VDM.
    fn default() -> Self {
        Self { max: 13.3, min: -5.0 }
    }
}

impl Schedule for LinearLogSnr {
    fn alpha_bar(&self, t: f64) -> f64 {
        1.0 / (1.0 + (-self.log_snr(t)).exp())
    }
    fn rate(&self, t: f64) -> f64 {
        (self.max - self.min) / (1.0 + self.log_snr(t).exp())
    }
    fn log_snr(&self, t: f64) -> f64 {
        self.max + (self.min - self.max) * t.clamp(0.0, 1.0)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        let alpha_bar = alpha_bar.clamp(0.0, 1.0);
        ((self.max - (alpha_bar / (1.0 - alpha_bar)).ln()) / (self.max - self.min)).clamp(0.0, 1.0)
    }
}
