//! A schedule given by its values at some times.

use crate::error::Error;
use crate::{Schedule, rate_of};

/// alpha_bar at given times, and between them a constant rate (log-linear interpolation).
///
/// Between two knots the logarithm is interpolated, which is what splitting a step of a chain into smaller equal
/// steps does; only where the later knot is 0 is alpha_bar itself interpolated. After the last knot alpha_bar stays.
///
/// ```
/// use galatea_schedules::{Schedule, Table};
/// let learned = Table::new(vec![0.0, 0.5, 1.0], vec![1.0, 0.25, 0.01])?;
/// assert!((learned.alpha_bar(0.25) - 0.5).abs() < 1e-15);
/// assert!((learned.time_of(0.05) - 0.75).abs() < 1e-15);
/// # Ok::<(), galatea_schedules::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    times: Vec<f64>,
    alpha_bars: Vec<f64>,
}

impl Table {
    /// The schedule through (`times[i]`, `alpha_bars[i]`): times rise strictly from 0 to at most 1, alpha_bars never
    /// rise and lie in \[0, 1\]; at least two knots.
    ///
    /// # Errors
    /// [`Error::Table`] with the first entry that breaks this.
    pub fn new(times: Vec<f64>, alpha_bars: Vec<f64>) -> Result<Self, Error> {
        let bad = |table, index, found, expected| Err(Error::Table { table, index, found, expected });
        if times.len() < 2 {
            return bad("times", times.len(), f64::NAN, "at least two knots");
        }
        if times.len() != alpha_bars.len() {
            return bad("alpha_bars", times.len().min(alpha_bars.len()), f64::NAN, "one alpha_bar for every time");
        }
        for (index, &found) in times.iter().enumerate() {
            let holds = if index == 0 { found == 0.0 } else { found > times[index - 1] && found <= 1.0 };
            if !holds {
                return bad("times", index, found, "0 first, then strictly rising and at most 1");
            }
        }
        for (index, &found) in alpha_bars.iter().enumerate() {
            let ceiling = if index == 0 { 1.0 } else { alpha_bars[index - 1] };
            if !(found >= 0.0 && found <= ceiling) {
                return bad("alpha_bars", index, found, "in [0, 1] and no more than the one before");
            }
        }
        Ok(Self { times, alpha_bars })
    }

    /// The knots' times.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// The knots' alpha_bar.
    pub fn alpha_bars(&self) -> &[f64] {
        &self.alpha_bars
    }

    /// The knot that ends the interval of `t`, or `None` after the last.
    fn end_of(&self, t: f64) -> Option<usize> {
        let end = self.times.partition_point(|&knot| knot < t).max(1);
        (end < self.times.len()).then_some(end)
    }
}

impl Schedule for Table {
    fn alpha_bar(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        let Some(end) = self.end_of(t) else { return self.alpha_bars[self.alpha_bars.len() - 1] };
        let (t_0, t_1) = (self.times[end - 1], self.times[end]);
        let (a_0, a_1) = (self.alpha_bars[end - 1], self.alpha_bars[end]);
        let u = (t - t_0) / (t_1 - t_0);
        match u {
            0.0 => a_0,
            1.0 => a_1,
            _ if a_1 > 0.0 => a_0 * (a_1 / a_0).powf(u),
            _ => a_0 * (1.0 - u),
        }
    }
    fn rate(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        let Some(end) = self.end_of(t) else { return 0.0 };
        let (a_0, a_1) = (self.alpha_bars[end - 1], self.alpha_bars[end]);
        let width = self.times[end] - self.times[end - 1];
        if a_1 > 0.0 { (a_0 / a_1).ln() / width } else { rate_of(self.alpha_bar(t), -a_0 / width) }
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        let t = t.clamp(0.0, 1.0);
        let Some(end) = self.end_of(t) else { return 0.0 };
        if self.alpha_bars[end] > 0.0 {
            -self.rate(t) * self.alpha_bar(t)
        } else {
            -self.alpha_bars[end - 1] / (self.times[end] - self.times[end - 1])
        }
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        let end = self.alpha_bars.partition_point(|&knot| knot > alpha_bar);
        if end == 0 {
            return 0.0;
        }
        if end == self.alpha_bars.len() {
            return 1.0;
        }
        let (a_0, a_1) = (self.alpha_bars[end - 1], self.alpha_bars[end]);
        let u = if a_1 > 0.0 { (alpha_bar / a_0).ln() / (a_1 / a_0).ln() } else { 1.0 - alpha_bar / a_0 };
        self.times[end - 1] + u * (self.times[end] - self.times[end - 1])
    }
}
