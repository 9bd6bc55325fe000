//! Time warping: CDCD's schedule spends time where the loss changes.

use crate::Schedule;
use crate::error::{Error, parameter};
use crate::learned::sigmoid;

/// What is learned of a [`Warped`] schedule, and the shape of its gradient.
///
/// # Shapes
/// `l_t` and `l_u` \[bins\].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WarpWeights {
    /// Logits of the bins' widths.
    pub l_t: Vec<f64>,
    /// Logarithms of the bins' heights.
    pub l_u: Vec<f64>,
}

/// The noise levels t in \[`t_min`, `t_max`\] with SNR = 256 / t², read off at equal steps of the loss F(t).
///
/// F is piecewise linear: bin k is w_t = softmax(l_t) + 1e-3 wide (the widths divided by their sum, in units of the range) and
/// w_u = exp(l_u) + 1e-3 high. Fitted to the cross-entropy at every level, F is the loss itself; divided by its height it is the
/// cumulative law of the levels that training draws: u is uniform and t = F^-1(u). That u in \[0, 1\] is the time of this
/// [`Schedule`].
///
/// # Source
/// Dieleman et al. (2022), "Continuous diffusion for categorical data", section 3.3; `LossCDF` of Plaid's code.
#[derive(Clone, Debug, PartialEq)]
pub struct Warped {
    weights: WarpWeights,
    t_min: f64,
    t_max: f64,
    /// Ends of the bins along t, from 0 to 1.
    ends_t: Vec<f64>,
    /// Ends of the bins along F, from 0.
    ends_u: Vec<f64>,
}

/// Every bin's least width and height.
const LEAST: f64 = 1e-3;
/// SNR t².
const SNR: f64 = 256.0;
/// The factor of the fit's loss.
const FIT: f64 = 1e-5;

impl Warped {
    /// The schedule of these weights on \[`t_min`, `t_max`\].
    ///
    /// # Errors
    /// [`Error::Table`] where the lists are empty, of two lengths, or not finite (or so large that their exponentials are not);
    /// [`Error::Parameter`] unless 0 < t_min < t_max.
    pub fn new(weights: WarpWeights, t_min: f64, t_max: f64) -> Result<Self, Error> {
        parameter("warped", "t_min", "positive", t_min, t_min > 0.0)?;
        parameter("warped", "t_max", "greater than t_min", t_max, t_max > t_min)?;
        let bins = weights.l_t.len();
        for (table, list) in [("l_t", &weights.l_t), ("l_u", &weights.l_u)] {
            let missing = list.is_empty() || list.len() != bins;
            let index = if missing {
                Some(list.len().min(bins))
            } else {
                list.iter().position(|x| x.is_nan() || x.abs() >= 300.0)
            };
            if let Some(index) = index {
                let found = list.get(index).copied().unwrap_or(f64::NAN);
                return Err(Error::Table {
                    table,
                    index,
                    found,
                    expected: "within 300 of 0, as many as the others, at least one",
                });
            }
        }
        let total = 1.0 + LEAST * bins as f64;
        let widths = softmax(&weights.l_t).into_iter().map(|w| (w + LEAST) / total);
        let mut ends_t = cumulative(widths);
        // The sum of the widths is one, whatever rounding says.
        ends_t[bins] = 1.0;
        let ends_u = cumulative(weights.l_u.iter().map(|l| l.exp() + LEAST));
        Ok(Self { weights, t_min, t_max, ends_t, ends_u })
    }

    /// Even bins: the levels are uniform and F(t) rises from 0 to 1 (and a little for the least heights).
    ///
    /// # Errors
    /// As [`Warped::new`].
    pub fn even(bins: usize, t_min: f64, t_max: f64) -> Result<Self, Error> {
        let list = vec![-(bins as f64).ln(); bins];
        Self::new(WarpWeights { l_t: list.clone(), l_u: list }, t_min, t_max)
    }

    /// Its weights.
    pub fn weights(&self) -> &WarpWeights {
        &self.weights
    }

    /// The range of t.
    pub fn range(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn height(&self) -> f64 {
        self.ends_u[self.ends_u.len() - 1]
    }

    /// The noise level of `u` in \[0, 1\], and its derivative.
    pub fn level(&self, u: f64) -> (f64, f64) {
        let u = u.clamp(0.0, 1.0) * self.height();
        let k = bin(&self.ends_u, u);
        let slope = (self.ends_t[k + 1] - self.ends_t[k]) / (self.ends_u[k + 1] - self.ends_u[k]);
        let t = self.ends_t[k] + (u - self.ends_u[k]) * slope;
        let range = self.t_max - self.t_min;
        (self.t_min + range * t, range * slope * self.height())
    }

    /// F(t) and F'(t), not normalised: the loss at the level `t` as the bins have it.
    pub fn loss(&self, t: f64) -> (f64, f64) {
        let range = self.t_max - self.t_min;
        let t = (t - self.t_min) / range;
        let k = bin(&self.ends_t, t);
        let slope = (self.ends_u[k + 1] - self.ends_u[k]) / (self.ends_t[k + 1] - self.ends_t[k]);
        (self.ends_u[k] + (t - self.ends_t[k]) * slope, slope / range)
    }

    /// The time u in \[0, 1\] of the level `t`: F(t) over F's height.
    pub fn time(&self, t: f64) -> f64 {
        self.loss(t).0 / self.height()
    }

    /// The loss of fitting F to what was measured, mean over the levels of 1e-5 / F'(t) (F(t) - measured)², and its gradient, in
    /// which the weight 1 / F' is a constant: it undoes the density with which the levels were drawn.
    ///
    /// # Shapes
    /// `levels` and `measured` of one length.
    ///
    /// # Panics
    /// If they are not.
    pub fn fit(&self, levels: &[f64], measured: &[f64]) -> (f64, WarpWeights) {
        assert_eq!(levels.len(), measured.len(), "one measurement a level");
        let bins = self.weights.l_t.len();
        let (mut dw_t, mut dw_u) = (vec![0.0; bins], vec![0.0; bins]);
        let mut loss = 0.0;
        for (&t, &measured) in levels.iter().zip(measured) {
            let (f, slope) = self.loss(t);
            let weight = FIT / slope / levels.len() as f64;
            loss += weight * (f - measured).powi(2);
            let df = 2.0 * weight * (f - measured);
            let at = (t - self.t_min) / (self.t_max - self.t_min);
            let k = bin(&self.ends_t, at);
            let (width, height) = (self.ends_t[k + 1] - self.ends_t[k], self.ends_u[k + 1] - self.ends_u[k]);
            let fraction = (at - self.ends_t[k]) / width;
            for j in 0..k {
                dw_u[j] += df;
                dw_t[j] -= df * height / width;
            }
            dw_u[k] += df * fraction;
            dw_t[k] -= df * height * fraction / width;
        }
        let total = 1.0 + LEAST * bins as f64;
        let p = softmax(&self.weights.l_t);
        let mean: f64 = p.iter().zip(&dw_t).map(|(p, d)| p * d).sum();
        let l_t = p.iter().zip(&dw_t).map(|(p, d)| p * (d - mean) / total).collect();
        let l_u = self.weights.l_u.iter().zip(&dw_u).map(|(l, d)| l.exp() * d).collect();
        (loss, WarpWeights { l_t, l_u })
    }
}

impl Schedule for Warped {
    fn alpha_bar(&self, u: f64) -> f64 {
        sigmoid(self.log_snr(u))
    }
    fn rate(&self, u: f64) -> f64 {
        let (t, slope) = self.level(u);
        // gamma = 2 ln t - ln 256.
        2.0 * slope / t * sigmoid(-self.log_snr(u))
    }
    fn log_snr(&self, u: f64) -> f64 {
        (SNR / self.level(u).0.powi(2)).ln()
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        let t = (SNR * (1.0 - alpha_bar) / alpha_bar).sqrt();
        if t.is_finite() { self.time(t.clamp(self.t_min, self.t_max)).clamp(0.0, 1.0) } else { 1.0 }
    }
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = x.iter().map(|x| (x - top).exp()).sum();
    x.iter().map(|x| (x - top).exp() / total).collect()
}

/// 0 and the sums of the first one, two, .. terms.
fn cumulative(terms: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut ends = vec![0.0];
    for term in terms {
        ends.push(ends[ends.len() - 1] + term);
    }
    ends
}

/// The bin that begins at or before `x`.
fn bin(ends: &[f64], x: f64) -> usize {
    ends.partition_point(|&end| end <= x).saturating_sub(1).min(ends.len() - 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_fixtures::derivative;
    use proptest::prelude::*;

    fn weights(bins: usize) -> impl Strategy<Value = WarpWeights> {
        let list = || proptest::collection::vec(-2.0..2.0f64, bins);
        (list(), list()).prop_map(|(l_t, l_u)| WarpWeights { l_t, l_u })
    }

    proptest! {
        #[test]
        fn level_and_time_are_inverse(w in weights(6), u in 0.0..=1.0f64) {
            let warped = Warped::new(w, 2.0, 300.0).expect("a schedule");
            prop_assert!((warped.time(warped.level(u).0) - u).abs() < 1e-12);
            prop_assert!((warped.time_of(warped.alpha_bar(u)) - u).abs() < 1e-9);
        }

        #[test]
        fn rate_is_the_derivative_inside_a_bin(w in weights(4), k in 0usize..4, within in 0.1..0.9f64) {
            let warped = Warped::new(w, 2.0, 300.0).expect("a schedule");
            let (from, to) = (warped.ends_u[k] / warped.height(), warped.ends_u[k + 1] / warped.height());
            let u = from + (to - from) * within;
            let rate = -derivative(|u| warped.alpha_bar(u).ln(), u, 1e-3 * (to - from));
            prop_assert!((rate - warped.rate(u)).abs() < 1e-6 * rate, "{rate} and {}", warped.rate(u));
        }

        #[test]
        fn gradient_of_the_fit_equals_finite_differences(w in weights(4), levels in proptest::collection::vec(3.0..299.0f64, 5)) {
            let measured = [0.1, 2.0, 0.7, 3.0, 1.0];
            let warped = Warped::new(w.clone(), 2.0, 300.0).expect("a schedule");
            let slopes: Vec<f64> = levels.iter().map(|&t| warped.loss(t).1).collect();
            // The weights 1 / F' are constants of the gradient.
            let value = |w: WarpWeights| {
                let moved = Warped::new(w, 2.0, 300.0).expect("a schedule");
                let terms = levels.iter().zip(&measured).zip(&slopes);
                terms.map(|((&t, m), s)| FIT / s / 5.0 * (moved.loss(t).0 - m).powi(2)).sum::<f64>()
            };
            // A level at the edge of a bin has two derivatives.
            let edge = |t: f64| warped.ends_t.iter().any(|e| (2.0 + 298.0 * e - t).abs() < 1.0);
            prop_assume!(!levels.iter().any(|&t| edge(t)));
            let (loss, gradient) = warped.fit(&levels, &measured);
            prop_assert!((loss - value(w.clone())).abs() < 1e-12 * (1.0 + loss));
            for k in 0..4 {
                let along = |x: f64| { let mut m = w.clone(); m.l_t[k] = x; value(m) };
                prop_assert!((derivative(along, w.l_t[k], 1e-4) - gradient.l_t[k]).abs() < 1e-7);
                let along = |x: f64| { let mut m = w.clone(); m.l_u[k] = x; value(m) };
                prop_assert!((derivative(along, w.l_u[k], 1e-4) - gradient.l_u[k]).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn what_is_no_warp_is_refused() {
        let list = |n| vec![0.0; n];
        let new = |l_t, l_u, t_min, t_max| Warped::new(WarpWeights { l_t, l_u }, t_min, t_max);
        assert!(matches!(new(list(0), list(0), 1.0, 2.0), Err(Error::Table { table: "l_t", .. })));
        assert!(matches!(new(list(2), list(3), 1.0, 2.0), Err(Error::Table { table: "l_u", .. })));
        assert!(matches!(new(vec![f64::NAN], list(1), 1.0, 2.0), Err(Error::Table { table: "l_t", index: 0, .. })));
        assert!(matches!(new(list(1), list(1), 0.0, 2.0), Err(Error::Parameter { parameter: "t_min", .. })));
        assert!(matches!(new(list(1), list(1), 2.0, 2.0), Err(Error::Parameter { parameter: "t_max", .. })));
        assert!(Warped::even(100, 2.0, 300.0).is_ok());
    }
}
