//! What the network is told of a noise level, in f64 to the last cast, and what the loss says of the level in return.

use super::{CONDITION, Condition, Plaid};
use galatea_autograd::Chunk;

/// The numbers of some rows' noise levels, for inputs of a program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// (signal, sigma) of every row: alpha = sqrt(sigmoid(-gamma)), sigma = sqrt(sigmoid(gamma)).
    pub level: Vec<f32>,
    /// (1 / sqrt(alpha² / d_embed + sigma²), prior alpha / sigma²) of every row: what the input and the output prior are
    /// multiplied by.
    pub scales: Vec<f32>,
    /// Sines (and cosines) of the level at many frequencies.
    pub features: Vec<f32>,
}

impl Conditions {
    /// Where the input's factor stands in a row of the scales.
    pub const INPUT: Chunk = Chunk { index: 0, of: 2 };
    /// Where the prior's stands.
    pub const PRIOR: Chunk = Chunk { index: 1, of: 2 };
}

/// sigmoid(x).
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

impl Plaid {
    /// Numbers of a row's features.
    pub fn features(&self) -> usize {
        match self.condition {
            Condition::Gamma => 64,
            Condition::Shift => CONDITION,
        }
    }

    /// exp of `n` even steps from -5 (gamma) or -6 (CDCD's t) to the same without its sign, or to [`Plaid::fastest`].
    fn frequencies(&self, n: usize) -> impl Iterator<Item = f64> + use<> {
        let end: f64 = match self.condition {
            Condition::Gamma => 5.0,
            Condition::Shift => 6.0,
        };
        let range = self.fastest.unwrap_or(end) + end;
        (0..n).map(move |i| (range * i as f64 / (n - 1) as f64 - end).exp())
    }

    /// Appends the numbers of one row at `gamma` = -log SNR; `prior` scales the output prior (1, less while training begins).
    pub fn tell(&self, gamma: f64, prior: f64, out: &mut Conditions) {
        let (signal, noise) = (sigmoid(-gamma), sigmoid(gamma));
        out.level.extend([signal.sqrt() as f32, noise.sqrt() as f32]);
        let input = 1.0 / (signal / self.d_embed as f64 + noise).sqrt();
        out.scales.extend([input as f32, (prior * signal.sqrt() / noise) as f32]);
        match self.condition {
            Condition::Gamma => {
                let angles = || self.frequencies(self.features() / 2).map(|f| f * gamma);
                out.features.extend(angles().map(|a| a.sin() as f32));
                out.features.extend(angles().map(|a| a.cos() as f32));
            }
            Condition::Shift => {
                let t = level_of(gamma);
                out.features.extend(self.frequencies(CONDITION).map(|f| (f * t).sin() as f32));
            }
        }
    }

    /// dloss / dgamma of one row, from the gradients of the numbers that [`Plaid::tell`] appended for it.
    ///
    /// # Shapes
    /// `dlevel` and `dscales` \[2\], `dfeatures` \[[`Plaid::features`]\].
    pub fn heard(&self, gamma: f64, prior: f64, dlevel: &[f32], dscales: &[f32], dfeatures: &[f32]) -> f64 {
        let (signal, noise) = (sigmoid(-gamma), sigmoid(gamma));
        let [dsignal, dsigma] = [f64::from(dlevel[0]), f64::from(dlevel[1])];
        let [dinput, dprior] = [f64::from(dscales[0]), f64::from(dscales[1])];
        let d = self.d_embed as f64;
        let input = 1.0 / (signal / d + noise).sqrt();
        let mut out = -0.5 * noise * signal.sqrt() * dsignal + 0.5 * signal * noise.sqrt() * dsigma;
        out -= dinput * 0.5 * input.powi(3) * signal * noise * (1.0 - 1.0 / d);
        out -= dprior * prior * signal.sqrt() / noise * (0.5 * noise + signal);
        match self.condition {
            Condition::Gamma => {
                let half = self.features() / 2;
                for (i, f) in self.frequencies(half).enumerate() {
                    let (sin, cos) = (f * gamma).sin_cos();
                    out += f * (f64::from(dfeatures[i]) * cos - f64::from(dfeatures[half + i]) * sin);
                }
            }
            Condition::Shift => {
                let t = level_of(gamma);
                for (f, &d) in self.frequencies(CONDITION).zip(dfeatures) {
                    out += 0.5 * t * f * f64::from(d) * (f * t).cos();
                }
            }
        }
        out
    }
}

/// CDCD's noise level t, SNR = 256 / t².
fn level_of(gamma: f64) -> f64 {
    (256.0 / (-gamma).exp()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_fixtures::derivative;

    #[test]
    fn what_is_heard_is_the_derivative_of_what_was_told() {
        let published = [Condition::Gamma, Condition::Shift].map(|condition| (condition, None));
        for (condition, fastest) in published.into_iter().chain([(Condition::Gamma, Some(-1.0))]) {
            let plaid = Plaid { d_embed: 8, condition, fastest, ..Plaid::default() };
            for gamma in [-4.0, -0.3, 0.0, 2.5, 6.0] {
                let mut told = Conditions::default();
                plaid.tell(gamma, 0.7, &mut told);
                assert_eq!((told.level.len(), told.scales.len(), told.features.len()), (2, 2, plaid.features()));
                // Weights on the features that are slow enough for a difference in f32 to see.
                let slow = |i: usize| if i % (plaid.features() / 2) < 16 { ((i * 7) % 5) as f32 - 2.0 } else { 0.0 };
                let dfeatures: Vec<f32> = (0..plaid.features()).map(slow).collect();
                let (dlevel, dscales) = ([0.5f32, -1.5], [2.0f32, 0.25]);
                let value = |gamma: f64| {
                    let mut told = Conditions::default();
                    plaid.tell(gamma, 0.7, &mut told);
                    let dot =
                        |x: &[f32], d: &[f32]| x.iter().zip(d).map(|(x, d)| f64::from(*x) * f64::from(*d)).sum::<f64>();
                    dot(&told.level, &dlevel) + dot(&told.scales, &dscales) + dot(&told.features, &dfeatures)
                };
                // A fine step: at a high level of noise the features turn fast.
                let truth = derivative(value, gamma, 5e-4);
                let found = plaid.heard(gamma, 0.7, &dlevel, &dscales, &dfeatures);
                assert!(
                    (found - truth).abs() < 3e-3 * (1.0 + truth.abs()),
                    "{condition:?} at {gamma}: {found} and {truth}"
                );
            }
        }
    }
}
