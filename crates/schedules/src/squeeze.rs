//! A schedule moved into a narrower range of signal, or stopped before its end.

use crate::error::{Error, parameter};
use crate::{Schedule, rate_of};

/// alpha_bar(t) = low + (high - low) inner(t): keeps both ends away from 0 and 1.
///
/// One combinator for the floors and clips of the literature: MDLM's cosines are `(low, high)` = (eps, 1), MD4's
/// schedules (eps, 1 - eps), BD3-LM's cosine (0, 1 - eps), and [`LogLinear`](crate::LogLinear) is (eps, 1) of
/// [`Linear`](crate::Linear).
///
/// ```
/// use galatea_schedules::{Schedule, Sine, Squeeze};
/// let md4_cosine = Squeeze::md4(Sine, 1e-4)?;
/// assert_eq!(md4_cosine.alpha_bar(0.0), 0.9999);
/// # Ok::<(), galatea_schedules::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Squeeze<S> {
    pub(crate) inner: S,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl<S: Schedule> Squeeze<S> {
    /// `inner` moved into \[`low`, `high`\], 0 <= `low` < `high` <= 1.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other range.
    pub fn new(inner: S, low: f64, high: f64) -> Result<Self, Error> {
        parameter("squeeze", "low", "at least 0", low, low >= 0.0)?;
        parameter("squeeze", "high", "above low and at most 1", high, high > low && high <= 1.0)?;
        Ok(Self { inner, low, high })
    }

    /// MD4's clip, (1 - 2 eps) inner + eps.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `eps` is in \[0, 1/2).
    pub fn md4(inner: S, eps: f64) -> Result<Self, Error> {
        Self::new(inner, eps, 1.0 - eps)
    }
}

impl<S: Schedule> Schedule for Squeeze<S> {
    fn alpha_bar(&self, t: f64) -> f64 {
        // The second form is exact at inner = 1, the first at inner = 0; both differ by rounding only.
        let inner = self.inner.alpha_bar(t);
        if inner < 0.5 {
            self.low + (self.high - self.low) * inner
        } else {
            self.high - (self.high - self.low) * (1.0 - inner)
        }
    }
    fn rate(&self, t: f64) -> f64 {
        rate_of(self.alpha_bar(t), self.alpha_bar_derivative(t))
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        (self.high - self.low) * self.inner.alpha_bar_derivative(t)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        self.inner.time_of((alpha_bar - self.low) / (self.high - self.low))
    }
}

/// alpha_bar(t) = inner(end t): the schedule stopped at time `end`, so that its last value and rate are inner's there.
///
/// Duo's cosine is `Until::new(Sine, 1.0 - 1e-3)`; [`LogLinear`](crate::LogLinear) is `Until` of
/// [`Linear`](crate::Linear) too.
///
/// # Source
/// Sahoo et al. (2025), "The diffusion duality" (Duo): its schedules scale t by 1 - eps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Until<S> {
    pub(crate) inner: S,
    pub(crate) end: f64,
}

impl<S: Schedule> Until<S> {
    /// `inner` up to time `end` in (0, 1\].
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other end.
    pub fn new(inner: S, end: f64) -> Result<Self, Error> {
        Ok(Self { inner, end: parameter("until", "end", "in (0, 1]", end, end > 0.0 && end <= 1.0)? })
    }
}

impl<S: Schedule> Schedule for Until<S> {
    fn alpha_bar(&self, t: f64) -> f64 {
        self.inner.alpha_bar(self.end * t.clamp(0.0, 1.0))
    }
    fn noise(&self, t: f64) -> f64 {
        self.inner.noise(self.end * t.clamp(0.0, 1.0))
    }
    fn rate(&self, t: f64) -> f64 {
        self.end * self.inner.rate(self.end * t.clamp(0.0, 1.0))
    }
    fn log_snr(&self, t: f64) -> f64 {
        self.inner.log_snr(self.end * t.clamp(0.0, 1.0))
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        self.end * self.inner.alpha_bar_derivative(self.end * t.clamp(0.0, 1.0))
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        (self.inner.time_of(alpha_bar) / self.end).min(1.0)
    }
}
