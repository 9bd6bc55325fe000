//! Drawing the steps that have cost most: importance sampling by the history of the loss.

use crate::Error;
use galatea_random::Philox;

/// Draws steps of a chain in proportion to the root mean square of the losses last seen there.
///
/// Under p_t in proportion to sqrt(E L_t²) the weighted loss L_t / (T p_t) has the least variance. Until every step has a full
/// history all are drawn alike; a share of uniform draws keeps every p_t above 0.
///
/// # Source
/// Nichol, Dhariwal (2021), "Improved denoising diffusion probabilistic models", section 3.3 (history 10); Diffusion-LM's
/// `LossSecondMomentResampler` (uniform share 1e-3).
#[derive(Clone, Debug, PartialEq)]
pub struct LossHistory {
    steps: usize,
    history: usize,
    uniform: f64,
    /// The squares of the last losses, step by step, and how many were ever seen.
    squares: Vec<f64>,
    seen: Vec<usize>,
    /// How many steps have a full history.
    full: usize,
}

impl LossHistory {
    /// A chain of `steps` with the last `history` losses of each, and a share `uniform` in (0, 1\] of uniform draws.
    ///
    /// # Errors
    /// [`Error::Parameter`] for no steps, no history or another share.
    pub fn new(steps: usize, history: usize, uniform: f64) -> Result<Self, Error> {
        let counts = [("the number of steps", steps), ("the length of the history", history)];
        if let Some(&(parameter, _)) = counts.iter().find(|(_, n)| *n == 0) {
            return Err(Error::Parameter { parameter, expected: "at least 1", found: 0.0 });
        }
        if !(uniform > 0.0 && uniform <= 1.0) {
            return Err(Error::Parameter { parameter: "the uniform share", expected: "in (0, 1]", found: uniform });
        }
        Ok(Self { steps, history, uniform, squares: vec![0.0; steps * history], seen: vec![0; steps], full: 0 })
    }

    /// Remembers the loss of a step; one that is not finite is not remembered.
    ///
    /// # Panics
    /// If there is no such step.
    pub fn observe(&mut self, step: usize, loss: f64) {
        let square = loss * loss;
        if square.is_finite() {
            self.squares[step * self.history + self.seen[step] % self.history] = square;
            self.seen[step] += 1;
            self.full += usize::from(self.seen[step] == self.history);
        }
    }

    /// The unnormalised weight of a step: the root of its mean square.
    fn weight(&self, step: usize) -> f64 {
        let squares = &self.squares[step * self.history..][..self.history];
        (squares.iter().sum::<f64>() / self.history as f64).sqrt()
    }

    /// The probability of every step, \[steps\].
    pub fn probabilities(&self) -> Vec<f64> {
        let even = 1.0 / self.steps as f64;
        let total: f64 = (0..self.steps).map(|step| self.weight(step)).sum();
        if self.full < self.steps || total <= 0.0 {
            return vec![even; self.steps];
        }
        let mixed = |step| (1.0 - self.uniform) * self.weight(step) / total + self.uniform * even;
        (0..self.steps).map(mixed).collect()
    }

    /// Draws the steps of a batch and the weights 1 / (T p) that keep the mean loss unbiased.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn draw(&self, rng: &mut Philox, steps: &mut [usize], weights: &mut [f64]) {
        assert_eq!(steps.len(), weights.len(), "draw: one weight per step");
        let p = self.probabilities();
        for (step, weight) in steps.iter_mut().zip(weights) {
            let mut left = rng.uniform();
            *step = p
                .iter()
                .position(|p| {
                    left -= p;
                    left < 0.0
                })
                .unwrap_or(self.steps - 1);
            *weight = 1.0 / (self.steps as f64 * p[*step]);
        }
    }
}
