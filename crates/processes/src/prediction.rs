//! What a Gaussian model's output means, and the way from each meaning to the others.

/// The quantity that a model predicts from x_t.
///
/// With signal a = sqrt(alpha_bar) and spread b = sqrt(1 - alpha_bar), x_t = a x_0 + b noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Prediction {
    /// The clean value x_0.
    #[default]
    X0,
    /// The noise.
    Noise,
    /// v = a noise - b x_0 (Salimans and Ho, 2022): finite at both ends.
    V,
    /// The score, the gradient of log q(x_t): -noise / b.
    Score,
}

/// A conversion at one time: to = `on_x_t` x_t + `on_prediction` from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    /// The coefficient of x_t.
    pub on_x_t: f64,
    /// The coefficient of the given prediction.
    pub on_prediction: f64,
}

impl Conversion {
    /// The converted number.
    #[inline]
    pub fn apply(&self, x_t: f64, prediction: f64) -> f64 {
        self.on_x_t * x_t + self.on_prediction * prediction
    }

    /// Converts every number of `prediction` in place.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn apply_all(&self, x_t: &[f32], prediction: &mut [f32]) {
        assert_eq!(x_t.len(), prediction.len(), "convert: x_t and the prediction must have one length");
        for (p, &x) in prediction.iter_mut().zip(x_t) {
            *p = self.apply(f64::from(x), f64::from(*p)) as f32;
        }
    }
}

impl Prediction {
    /// How to turn this prediction into another at signal power `alpha_bar`.
    ///
    /// Conversions that divide by the signal are infinite at alpha_bar = 0 and those that divide by the spread at
    /// alpha_bar = 1: that is in the nature of the quantities. x_0 and v, noise and v, noise and score avoid both where
    /// they can.
    ///
    /// ```
    /// use galatea_processes::Prediction;
    /// let (alpha_bar, x_0, noise) = (0.36f64, 2.0, -1.0);
    /// let x_t = alpha_bar.sqrt() * x_0 + (1.0 - alpha_bar).sqrt() * noise;
    /// let found = Prediction::X0.to(Prediction::Noise, alpha_bar).apply(x_t, x_0);
    /// assert!((found - noise).abs() < 1e-12);
    /// ```
    ///
    /// # Source
    /// Salimans, Ho (2022), "Progressive distillation", appendix D; `docs/derivations/gaussian.md`, section 4.
    pub fn to(self, other: Self, alpha_bar: f64) -> Conversion {
        use Prediction::{Noise, Score, V, X0};
        let noise_power = (1.0 - alpha_bar).max(0.0);
        let (a, b) = (alpha_bar.sqrt(), noise_power.sqrt());
        let (on_x_t, on_prediction) = match (self, other) {
            (X0, X0) | (Noise, Noise) | (V, V) | (Score, Score) => (0.0, 1.0),
            (X0, Noise) => (1.0 / b, -a / b),
            (X0, V) => (a / b, -1.0 / b),
            (X0, Score) => (-1.0 / noise_power, a / noise_power),
            (Noise, X0) => (1.0 / a, -b / a),
            (Noise, V) => (-b / a, 1.0 / a),
            (Noise, Score) => (0.0, -1.0 / b),
            (V, X0) => (a, -b),
            (V, Noise) => (b, a),
            (V, Score) => (-1.0, -a / b),
            (Score, X0) => (1.0 / a, noise_power / a),
            (Score, Noise) => (0.0, -b),
            (Score, V) => (-b / a, -b / a),
        };
        Conversion { on_x_t, on_prediction }
    }
}
