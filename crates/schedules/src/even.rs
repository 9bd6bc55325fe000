//! The schedule under which every time weighs the same in the masked bound.

use crate::error::{Error, parameter};
use crate::{LogLinear, Schedule};

/// alpha_bar(t) = 1 - p_min^(1-t) p_max^t: the share of noise grows by a constant factor, so that the weight
/// -alpha_bar' / (1 - alpha_bar) of the masked bound is log(p_max / p_min) at every time.
///
/// Training on uniform times of this schedule is MDLM's "change of variables"; a schedule's own times taken at
/// `schedule.time_of(even.alpha_bar(u))` for uniform u are its "importance sampling", with a density in proportion to the
/// weight. Both make the loss of a token the same multiple of its cross-entropy.
///
/// ```
/// use galatea_schedules::{EvenWeight, Linear, Schedule};
/// let even = EvenWeight::new(0.001, 1.0)?;
/// let t = Linear.time_of(even.alpha_bar(0.5));
/// assert!((t - 0.001f64.sqrt()).abs() < 1e-15);
/// # Ok::<(), galatea_schedules::Error>(())
/// ```
///
/// # Source
/// Sahoo et al. (2024), MDLM, the bound's invariance to the schedule; its code's `change_of_variables` and
/// `importance_sampling`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvenWeight {
    pub(crate) p_min: f64,
    pub(crate) p_max: f64,
}

impl EvenWeight {
    /// The schedule with a share of noise `p_min` at t = 0 and `p_max` at t = 1, 0 < `p_min` < `p_max` <= 1.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other value.
    pub fn new(p_min: f64, p_max: f64) -> Result<Self, Error> {
        parameter("even-weight", "p_min", "above 0", p_min, p_min > 0.0)?;
        parameter("even-weight", "p_max", "above p_min and at most 1", p_max, p_max > p_min && p_max <= 1.0)?;
        Ok(Self { p_min, p_max })
    }

    /// MDLM's ends for its log-linear noise: sigma from eps to -log eps, that is p from 1 - exp(-eps) to 1 - eps.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless eps is above 0 and small enough (below 0.56) for the ends to be in order.
    pub fn of_log_linear(schedule: LogLinear) -> Result<Self, Error> {
        Self::new(-(-schedule.eps).exp_m1(), 1.0 - schedule.eps)
    }

    /// log(p_max / p_min), the weight of every time in the masked bound.
    pub fn weight(&self) -> f64 {
        (self.p_max / self.p_min).ln()
    }
}

impl Default for EvenWeight {
    /// The ends of MDLM's log-linear noise with eps = 1e-3.
    fn default() -> Self {
        Self { p_min: -(-1e-3f64).exp_m1(), p_max: 1.0 - 1e-3 }
    }
}

impl Schedule for EvenWeight {
    fn alpha_bar(&self, t: f64) -> f64 {
        1.0 - self.noise(t)
    }
    fn noise(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        self.p_min.powf(1.0 - t) * self.p_max.powf(t)
    }
    fn rate(&self, t: f64) -> f64 {
        crate::rate_of(self.alpha_bar(t), self.alpha_bar_derivative(t))
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        -self.noise(t) * self.weight()
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        (((1.0 - alpha_bar) / self.p_min).ln() / self.weight()).clamp(0.0, 1.0)
    }
}
