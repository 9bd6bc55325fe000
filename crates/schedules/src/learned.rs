//! A schedule that is learned: Plaid's monotone gamma(t), with its gradient.

use crate::Schedule;
use crate::error::{Error, parameter};

/// The numbers of a [`LearnedGamma`], and the shape of their gradient.
///
/// # Shapes
/// `w_1`, `b_1` and `w_2` \[hidden\].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GammaWeights {
    /// Slopes, before the softplus that makes them positive.
    pub w_1: Vec<f64>,
    /// Offsets.
    pub b_1: Vec<f64>,
    /// Heights, before the softplus.
    pub w_2: Vec<f64>,
    /// gamma at t = 0.
    pub gamma_0: f64,
    /// gamma at t = 1.
    pub gamma_1: f64,
}

/// gamma(t) = -log SNR as a sum of sigmoids between two learned ends.
///
/// g(t) = 0.01 softplus(w_2) · tanh(softplus(w_1) (t - 1/2) + b_1), warp(t) = (g(t) - g(0)) / (g(1) - g(0)) from 0 to 1, and
/// gamma(t) = gamma_0 + (gamma_1 - gamma_0) warp(t). The warp alone is what a variance-minimising objective moves; the ends are
/// part of the bound.
///
/// # Source
/// Kingma et al. (2021), "Variational diffusion models", appendix H; Gulrajani & Hashimoto (2023), "Likelihood-based diffusion
/// language models", section 3 (`NoiseSchedule` of its code).
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedGamma {
    weights: GammaWeights,
    /// softplus(w_1).
    slopes: Vec<f64>,
    /// 0.01 softplus(w_2).
    heights: Vec<f64>,
    /// g(0).
    start: f64,
    /// g(1) - g(0).
    rise: f64,
}

/// warp(t) in \[0, 1\] and its derivative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    /// warp(t).
    pub value: f64,
    /// warp'(t).
    pub slope: f64,
}

const SCALE: f64 = 0.01;

impl LearnedGamma {
    /// The schedule of these weights.
    ///
    /// # Errors
    /// [`Error::Table`] where a list is empty, of another length or not finite; [`Error::Parameter`] where gamma does not rise or
    /// the warp is flat.
    pub fn new(weights: GammaWeights) -> Result<Self, Error> {
        let hidden = weights.w_1.len();
        for (table, list) in [("w_1", &weights.w_1), ("b_1", &weights.b_1), ("w_2", &weights.w_2)] {
            let missing = list.is_empty() || list.len() != hidden;
            let index = if missing { Some(list.len().min(hidden)) } else { list.iter().position(|x| !x.is_finite()) };
            if let Some(index) = index {
                let found = list.get(index).copied().unwrap_or(f64::NAN);
                return Err(Error::Table {
                    table,
                    index,
                    found,
                    expected: "finite, as many as the others, at least one",
                });
            }
        }
        let GammaWeights { gamma_0, gamma_1, .. } = weights;
        parameter("learned-gamma", "gamma_0", "finite", gamma_0, true)?;
        parameter("learned-gamma", "gamma_1", "greater than gamma_0", gamma_1, gamma_1 > gamma_0)?;
        let slopes: Vec<f64> = weights.w_1.iter().copied().map(softplus).collect();
        let heights: Vec<f64> = weights.w_2.iter().map(|&w| SCALE * softplus(w)).collect();
        let mut out = Self { weights, slopes, heights, start: 0.0, rise: 1.0 };
        out.start = out.g(0.0);
        out.rise = out.g(1.0) - out.start;
        parameter("learned-gamma", "g(1) - g(0)", "positive", out.rise, out.rise > 0.0)?;
        Ok(out)
    }

    /// Its weights.
    pub fn weights(&self) -> &GammaWeights {
        &self.weights
    }

    fn g(&self, t: f64) -> f64 {
        let terms = self.slopes.iter().zip(&self.weights.b_1).zip(&self.heights);
        terms.map(|((a, b), c)| c * (a * (t - 0.5) + b).tanh()).sum()
    }

    /// warp(t) and its derivative.
    pub fn warp(&self, t: f64) -> Warp {
        let t = t.clamp(0.0, 1.0);
        let terms = self.slopes.iter().zip(&self.weights.b_1).zip(&self.heights);
        let slope: f64 = terms.map(|((a, b), c)| c * a * (1.0 - (a * (t - 0.5) + b).tanh().powi(2))).sum();
        Warp { value: (self.g(t) - self.start) / self.rise, slope: slope / self.rise }
    }

    /// gamma(t).
    pub fn gamma(&self, t: f64) -> f64 {
        self.weights.gamma_0 + self.range() * self.warp(t).value
    }

    /// gamma'(t).
    pub fn gamma_derivative(&self, t: f64) -> f64 {
        self.range() * self.warp(t).slope
    }

    /// gamma_1 - gamma_0.
    pub fn range(&self) -> f64 {
        self.weights.gamma_1 - self.weights.gamma_0
    }

    /// Adds the gradient of the weights behind the warp, given that of warp(t) and of warp'(t).
    ///
    /// # Shapes
    /// `into` as long as the weights; its `gamma_0` and `gamma_1` are left alone.
    ///
    /// # Panics
    /// If its lists are shorter than the weights.
    pub fn warp_gradient(&self, t: f64, d: Warp, into: &mut GammaWeights) {
        let (t, warp) = (t.clamp(0.0, 1.0), self.warp(t));
        let (of_value, of_slope) = (d.value / self.rise, d.slope / self.rise);
        // warp = (g(t) - g(0)) / (g(1) - g(0)), and its slope over the same rise.
        let of_rise = -(of_value * warp.value + of_slope * warp.slope);
        let (of_start, of_end) = (-of_value - of_rise, of_rise);
        for k in 0..self.slopes.len() {
            let (a, b, c) = (self.slopes[k], self.weights.b_1[k], self.heights[k]);
            let (mut da, mut db, mut dc) = (0.0, 0.0, 0.0);
            for (at, dg) in [(t, of_value), (0.0, of_start), (1.0, of_end)] {
                let h = (a * (at - 0.5) + b).tanh();
                let bend = 1.0 - h * h;
                da += dg * c * bend * (at - 0.5);
                db += dg * c * bend;
                dc += dg * h;
            }
            let h = (a * (t - 0.5) + b).tanh();
            let bend = 1.0 - h * h;
            da += of_slope * c * bend * (1.0 - 2.0 * a * h * (t - 0.5));
            db -= of_slope * c * a * 2.0 * h * bend;
            dc += of_slope * a * bend;
            into.w_1[k] += da * sigmoid(self.weights.w_1[k]);
            into.b_1[k] += db;
            into.w_2[k] += dc * SCALE * sigmoid(self.weights.w_2[k]);
        }
    }
}

impl Schedule for LearnedGamma {
    fn alpha_bar(&self, t: f64) -> f64 {
        sigmoid(-self.gamma(t))
    }
    fn rate(&self, t: f64) -> f64 {
        self.gamma_derivative(t) * sigmoid(self.gamma(t))
    }
    fn log_snr(&self, t: f64) -> f64 {
        -self.gamma(t)
    }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_fixtures::derivative;
    use proptest::prelude::*;

    fn weights(hidden: usize) -> impl Strategy<Value = GammaWeights> {
        let list = || proptest::collection::vec(-2.0..2.0f64, hidden);
        (list(), list(), list(), -6.0..0.0f64, 1.0..8.0f64).prop_map(|(w_1, b_1, w_2, gamma_0, gamma_1)| GammaWeights {
            w_1,
            b_1,
            w_2,
            gamma_0,
            gamma_1,
        })
    }

    proptest! {
        #[test]
        fn gamma_rises_from_one_end_to_the_other(w in weights(5), t in 0.0..=1.0f64, u in 0.0..=1.0f64) {
            let s = LearnedGamma::new(w.clone()).expect("rises");
            prop_assert!((s.gamma(0.0) - w.gamma_0).abs() < 1e-12 && (s.gamma(1.0) - w.gamma_1).abs() < 1e-12);
            prop_assert!(s.gamma(t.min(u)) <= s.gamma(t.max(u)));
            let found = derivative(|t| s.gamma(t), t.clamp(0.01, 0.99), 1e-3);
            prop_assert!((found - s.gamma_derivative(t.clamp(0.01, 0.99))).abs() < 1e-7 * (1.0 + found.abs()));
        }

        #[test]
        fn it_is_a_schedule(w in weights(4), t in 0.01..0.99f64) {
            let s = LearnedGamma::new(w).expect("rises");
            let rate = -derivative(|t| s.alpha_bar(t).ln(), t, 1e-3);
            prop_assert!((rate - s.rate(t)).abs() < 1e-7 * (1.0 + rate));
            prop_assert!((s.time_of(s.alpha_bar(t)) - t).abs() < 1e-9);
        }

        #[test]
        fn gradient_of_the_warp_equals_finite_differences(w in weights(3), t in 0.0..=1.0f64) {
            let d = Warp { value: 0.7, slope: -0.4 };
            let value = |w: &GammaWeights| {
                let warp = LearnedGamma::new(w.clone()).expect("rises").warp(t);
                d.value * warp.value + d.slope * warp.slope
            };
            let zeros = || vec![0.0; 3];
            let mut found = GammaWeights { w_1: zeros(), b_1: zeros(), w_2: zeros(), ..GammaWeights::default() };
            LearnedGamma::new(w.clone()).expect("rises").warp_gradient(t, d, &mut found);
            type List = fn(&mut GammaWeights) -> &mut Vec<f64>;
            let lists: [List; 3] = [|w| &mut w.w_1, |w| &mut w.b_1, |w| &mut w.w_2];
            for list in lists {
                for k in 0..3 {
                    let at = list(&mut w.clone())[k];
                    let along = |x: f64| {
                        let mut moved = w.clone();
                        list(&mut moved)[k] = x;
                        value(&moved)
                    };
                    let truth = derivative(along, at, 1e-3);
                    let found = list(&mut found)[k];
                    prop_assert!((found - truth).abs() < 1e-7 * (1.0 + truth.abs()), "{found} and {truth}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let good =
            GammaWeights { w_1: vec![0.0; 2], b_1: vec![0.0; 2], w_2: vec![0.0; 2], gamma_0: -3.0, gamma_1: 6.0 };
        assert!(LearnedGamma::new(good.clone()).is_ok());
        let empty = GammaWeights { gamma_1: 1.0, ..GammaWeights::default() };
        assert!(matches!(LearnedGamma::new(empty), Err(Error::Table { table: "w_1", .. })));
        let short = GammaWeights { b_1: vec![0.0], ..good.clone() };
        assert!(matches!(LearnedGamma::new(short), Err(Error::Table { table: "b_1", .. })));
        let nan = GammaWeights { w_2: vec![0.0, f64::NAN], ..good.clone() };
        assert!(matches!(LearnedGamma::new(nan), Err(Error::Table { table: "w_2", index: 1, .. })));
        let falling = GammaWeights { gamma_1: -4.0, ..good.clone() };
        assert!(matches!(LearnedGamma::new(falling), Err(Error::Parameter { parameter: "gamma_1", .. })));
        let flat = GammaWeights { b_1: vec![1e6; 2], ..good };
        assert!(matches!(LearnedGamma::new(flat), Err(Error::Parameter { parameter: "g(1) - g(0)", .. })));
    }
}
