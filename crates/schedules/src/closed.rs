//! Schedules given as alpha_bar(t) in closed form.

use crate::error::{Error, parameter};
use crate::{Schedule, rate_of};
use std::f64::consts::FRAC_PI_2;

/// alpha_bar(t) = 1 - t: the same share of the signal is lost in every unit of time.
///
/// Its chain of T steps has beta_t = 1 / (T - t + 1) ([`Betas::jsd`](crate::Betas::jsd)), *not* beta_t = t / T.
///
/// # Source
/// Austin et al. (2021), "Structured denoising diffusion models in discrete state-spaces" (D3PM), the absorbing
/// schedule; Nie et al. (2025), LLaDA, where t is the masking probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Linear;

impl Schedule for Linear {
    fn alpha_bar(&self, t: f64) -> f64 {
        1.0 - t.clamp(0.0, 1.0)
    }
    fn noise(&self, t: f64) -> f64 {
        t.clamp(0.0, 1.0)
    }
    fn rate(&self, t: f64) -> f64 {
        rate_of(self.alpha_bar(t), -1.0)
    }
    fn alpha_bar_derivative(&self, _: f64) -> f64 {
        -1.0
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        (1.0 - alpha_bar).clamp(0.0, 1.0)
    }
}

/// alpha_bar(t) = 1 - (1 - eps) t: [`Linear`] stopped a little before the end, so that the rate stays finite.
///
/// # Source
/// Lou, Meng, Ermon (2024), SEDD, "log-linear noise": sigma(t) = -log(1 - (1 - eps) t); Sahoo et al. (2024), MDLM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogLinear {
    pub(crate) eps: f64,
}

impl LogLinear {
    /// The schedule that ends at `eps`, in \[0, 1).
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other `eps`.
    pub fn new(eps: f64) -> Result<Self, Error> {
        let eps = parameter("log-linear", "eps", "in [0, 1)", eps, (0.0..1.0).contains(&eps))?;
        Ok(Self { eps })
    }
}

impl Default for LogLinear {
    /// eps = 1e-3, as in SEDD and MDLM.
    fn default() -> Self {
        Self { eps: 1e-3 }
    }
}

impl Schedule for LogLinear {
    fn alpha_bar(&self, t: f64) -> f64 {
        1.0 - self.noise(t)
    }
    fn noise(&self, t: f64) -> f64 {
        (1.0 - self.eps) * t.clamp(0.0, 1.0)
    }
    fn rate(&self, t: f64) -> f64 {
        rate_of(self.alpha_bar(t), -(1.0 - self.eps))
    }
    fn alpha_bar_derivative(&self, _: f64) -> f64 {
        -(1.0 - self.eps)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        ((1.0 - alpha_bar) / (1.0 - self.eps)).clamp(0.0, 1.0)
    }
}

/// alpha_bar(t) = f(t) / f(0) with f(t) = cos(pi/2 (t + s) / (1 + s))^power.
///
/// | s | power | where |
/// |---|---|---|
/// | 0.008 | 2 | Nichol and Dhariwal (2021), Diffusion-LM: the default |
/// | 0.008 | 1 | D3PM's images ("cosine without the square") |
/// | 0 | 1, 2 | MDLM's `cosine` and `cosinesqr`, before their floor: `Squeeze::new(Cosine::new(0.0, p)?, 1e-3, 1.0)` |
///
/// # Source
/// Nichol, Dhariwal (2021), "Improved denoising diffusion probabilistic models", equation 17.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosine {
    pub(crate) s: f64,
    pub(crate) power: f64,
}

impl Cosine {
    /// The schedule with offset `s` >= 0 and `power` > 0.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other value.
    pub fn new(s: f64, power: f64) -> Result<Self, Error> {
        parameter("cosine", "s", "at least 0", s, s >= 0.0)?;
        parameter("cosine", "power", "above 0", power, power > 0.0)?;
        Ok(Self { s, power })
    }

    fn at_zero(&self) -> f64 {
        (FRAC_PI_2 / (1.0 + self.s)).sin()
    }

    /// Cosine and sine of the angle pi/2 (t + s) / (1 + s), each from the end where it keeps its digits: the cosine is
    /// exactly 0 at t = 1.
    fn sides(&self, t: f64) -> (f64, f64) {
        let t = t.clamp(0.0, 1.0);
        if t < 0.5 {
            let (sin, cos) = (FRAC_PI_2 * (t + self.s) / (1.0 + self.s)).sin_cos();
            (cos, sin)
        } else {
            (FRAC_PI_2 * (1.0 - t) / (1.0 + self.s)).sin_cos()
        }
    }
}

impl Default for Cosine {
    /// s = 0.008, squared.
    fn default() -> Self {
        Self { s: 0.008, power: 2.0 }
    }
}

impl Schedule for Cosine {
    fn alpha_bar(&self, t: f64) -> f64 {
        (self.sides(t).0 / self.at_zero()).powf(self.power).min(1.0)
    }
    fn rate(&self, t: f64) -> f64 {
        let (cos, sin) = self.sides(t);
        self.power * FRAC_PI_2 / (1.0 + self.s) * sin / cos
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        let (cos, sin) = self.sides(t);
        let ratio = (cos / self.at_zero()).powf(self.power - 1.0) / self.at_zero();
        -self.power * ratio * sin * FRAC_PI_2 / (1.0 + self.s)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        let sin = alpha_bar.clamp(0.0, 1.0).powf(1.0 / self.power) * self.at_zero();
        (1.0 - sin.asin() / FRAC_PI_2 * (1.0 + self.s)).clamp(0.0, 1.0)
    }
}

/// alpha_bar(t) = 1 - sin(pi/2 t) = 1 - cos(pi/2 (1 - t)): fast at first, slow at the end.
///
/// MD4 and Duo call it "cosine"; MD4's is `Squeeze::md4(Sine, 1e-4)`, Duo's `Until::new(Sine, 1.0 - 1e-3)`.
///
/// # Source
/// Shi et al. (2024), "Simplified and generalized masked diffusion for discrete data" (MD4), the cosine schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sine;

impl Schedule for Sine {
    fn alpha_bar(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        // Near the end 1 - sin x = 2 sin^2((pi/2 - x) / 2) keeps its digits; near the start the plain form is exact.
        if t < 0.5 { 1.0 - self.noise(t) } else { 2.0 * (0.5 * FRAC_PI_2 * (1.0 - t)).sin().powi(2) }
    }
    fn noise(&self, t: f64) -> f64 {
        (FRAC_PI_2 * t.clamp(0.0, 1.0)).sin()
    }
    fn rate(&self, t: f64) -> f64 {
        rate_of(self.alpha_bar(t), self.alpha_bar_derivative(t))
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        -FRAC_PI_2 * (FRAC_PI_2 * (1.0 - t.clamp(0.0, 1.0))).sin()
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        (1.0 - (0.5 * alpha_bar.clamp(0.0, 1.0)).sqrt().asin() / (0.5 * FRAC_PI_2)).clamp(0.0, 1.0)
    }
}

/// alpha_bar(t) = (1 - sqrt(t + s)) / (1 - sqrt(s)), 0 from t = 1 - s on: noise comes quickly where rounding an
/// embedding is easy, slowly afterwards.
///
/// The division by the value at 0 is what the chain of Diffusion-LM does implicitly: its betas are ratios.
///
/// # Source
/// Li et al. (2022), "Diffusion-LM improves controllable text generation", appendix A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sqrt {
    pub(crate) s: f64,
}

impl Sqrt {
    /// The schedule with offset `s` in (0, 1).
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other `s`.
    pub fn new(s: f64) -> Result<Self, Error> {
        Ok(Self { s: parameter("sqrt", "s", "in (0, 1)", s, s > 0.0 && s < 1.0)? })
    }
}

impl Default for Sqrt {
    /// s = 1e-4, as in Diffusion-LM.
    fn default() -> Self {
        Self { s: 1e-4 }
    }
}

impl Schedule for Sqrt {
    fn alpha_bar(&self, t: f64) -> f64 {
        ((1.0 - (t.clamp(0.0, 1.0) + self.s).sqrt()) / (1.0 - self.s.sqrt())).max(0.0)
    }
    fn rate(&self, t: f64) -> f64 {
        rate_of(self.alpha_bar(t), self.alpha_bar_derivative(t))
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        let root = (t.clamp(0.0, 1.0) + self.s).sqrt();
        if root < 1.0 { -0.5 / (root * (1.0 - self.s.sqrt())) } else { 0.0 }
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        ((1.0 - alpha_bar.clamp(0.0, 1.0) * (1.0 - self.s.sqrt())).powi(2) - self.s).clamp(0.0, 1.0)
    }
}

/// alpha_bar(t) = 1 - t^power. MD4's "poly", BD3-LM's "square" (power 2) and "square root" (power 1/2).
///
/// # Source
/// Shi et al. (2024), MD4, the polynomial schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Polynomial {
    pub(crate) power: f64,
}

impl Polynomial {
    /// The schedule of a `power` above 0.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other power.
    pub fn new(power: f64) -> Result<Self, Error> {
        Ok(Self { power: parameter("polynomial", "power", "above 0", power, power > 0.0)? })
    }
}

impl Schedule for Polynomial {
    fn alpha_bar(&self, t: f64) -> f64 {
        1.0 - self.noise(t)
    }
    fn noise(&self, t: f64) -> f64 {
        t.clamp(0.0, 1.0).powf(self.power)
    }
    fn rate(&self, t: f64) -> f64 {
        rate_of(self.alpha_bar(t), self.alpha_bar_derivative(t))
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        -self.power * t.clamp(0.0, 1.0).powf(self.power - 1.0)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        (1.0 - alpha_bar).clamp(0.0, 1.0).powf(1.0 / self.power)
    }
}

/// alpha_bar(t) = (1 - t)^power: the polynomial mixture path kappa of discrete flow matching, whose time runs from
/// noise to data, so that kappa(1 - t) = alpha_bar(t).
///
/// # Source
/// Gat et al. (2024), "Discrete flow matching" (the scheduler kappa_t = t^n).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Power {
    pub(crate) power: f64,
}

impl Power {
    /// The schedule of a `power` above 0.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other power.
    pub fn new(power: f64) -> Result<Self, Error> {
        Ok(Self { power: parameter("power", "power", "above 0", power, power > 0.0)? })
    }
}

impl Schedule for Power {
    fn alpha_bar(&self, t: f64) -> f64 {
        (1.0 - t.clamp(0.0, 1.0)).powf(self.power)
    }
    fn rate(&self, t: f64) -> f64 {
        self.power / (1.0 - t.clamp(0.0, 1.0))
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        -self.power * (1.0 - t.clamp(0.0, 1.0)).powf(self.power - 1.0)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        1.0 - alpha_bar.clamp(0.0, 1.0).powf(1.0 / self.power)
    }
}

/// alpha_bar(t) = 1 - log2(1 + t): BD3-LM's "log".
///
/// # Source
/// Arriola et al. (2025), "Block diffusion" (BD3-LM), the noise schedules compared in its experiments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Logarithm;

impl Schedule for Logarithm {
    fn alpha_bar(&self, t: f64) -> f64 {
        1.0 - self.noise(t)
    }
    fn noise(&self, t: f64) -> f64 {
        t.clamp(0.0, 1.0).ln_1p() / std::f64::consts::LN_2
    }
    fn rate(&self, t: f64) -> f64 {
        rate_of(self.alpha_bar(t), self.alpha_bar_derivative(t))
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        -1.0 / ((1.0 + t.clamp(0.0, 1.0)) * std::f64::consts::LN_2)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        ((1.0 - alpha_bar.clamp(0.0, 1.0)).exp2() - 1.0).clamp(0.0, 1.0)
    }
}
