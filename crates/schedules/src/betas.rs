//! Discrete chains: one beta per step.

use crate::{Error, Schedule, Table};
use std::f64::consts::PI;

/// The betas of a chain of T steps and their cumulative products, in `f64`.
///
/// Step i (from 0) is the transition to time (i + 1) / T; it keeps 1 - betas\[i\] of the signal power (or, of a token,
/// the probability of not being replaced), and `alphas_cumprod[i]` = prod of 1 - betas\[0..=i\] is left after it. As a
/// [`Schedule`] it is exact at the grid's times and has a constant rate between them.
///
/// ```
/// use galatea_schedules::{Betas, Schedule};
/// let chain = Betas::jsd(1000)?; // beta_t = 1 / (T - t + 1), the chain of alpha_bar = 1 - t / T
/// assert!((chain.alpha_bar(0.25) - 0.75).abs() < 1e-12);
/// # Ok::<(), galatea_schedules::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Betas {
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
    timestep_map: Vec<usize>,
    original: usize,
    table: Table,
}

/// The largest beta that Nichol and Dhariwal allow a chain made from a closed form.
pub const MAX_BETA: f64 = 0.999;

impl Betas {
    /// The chain of the given betas, each in \[0, 1\], at least one.
    ///
    /// # Errors
    /// [`Error::Table`] with the first beta outside the range, or for an empty list.
    pub fn new(betas: Vec<f64>) -> Result<Self, Error> {
        let steps = betas.len();
        Self::on_grid(betas, (0..steps).collect(), steps)
    }

    /// The chain whose cumulative products follow `alpha_bar` on the grid i / `steps`:
    /// beta_i = min(1 - alpha_bar((i+1)/T) / alpha_bar(i/T), `max_beta`). `alpha_bar` need not be 1 at 0.
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0 or `alpha_bar` rises or is not finite.
    pub fn from_alpha_bar(steps: usize, alpha_bar: impl Fn(f64) -> f64, max_beta: f64) -> Result<Self, Error> {
        let time = |i: usize| i as f64 / steps as f64;
        let beta = |i: usize| (1.0 - alpha_bar(time(i + 1)) / alpha_bar(time(i))).min(max_beta);
        Self::new((0..steps).map(beta).collect())
    }

    /// The chain of a continuous schedule, with betas of at most `max_beta` ([`MAX_BETA`], or 1 for none).
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0.
    pub fn from_schedule(schedule: &impl Schedule, steps: usize, max_beta: f64) -> Result<Self, Error> {
        let beta = |i: usize| {
            let (s, t) = (i as f64 / steps as f64, (i + 1) as f64 / steps as f64);
            let before = schedule.alpha_bar(s);
            let kept = if before > 0.0 { schedule.alpha_bar(t) / before } else { 0.0 };
            // A schedule may start below 1; its first step then carries the noise of time 0 as well.
            let kept = if i == 0 { schedule.alpha_bar(t) } else { kept };
            // A schedule never rises; a ratio above 1 is rounding.
            (1.0 - kept).clamp(0.0, max_beta.clamp(0.0, 1.0))
        };
        Self::new((0..steps).map(beta).collect())
    }

    /// DDPM's linear betas, 1e-4 to 0.02 for 1000 steps and scaled by 1000 / `steps` for other lengths.
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0 or so small (below 20) that a beta would exceed 1.
    pub fn linear(steps: usize) -> Result<Self, Error> {
        let scale = 1000.0 / steps as f64;
        Self::new(linspace(scale * 1e-4, scale * 0.02, steps))
    }

    /// Nichol and Dhariwal's cosine, cos^2(pi/2 (t + 0.008) / 1.008).
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0.
    pub fn cosine(steps: usize) -> Result<Self, Error> {
        Self::from_alpha_bar(steps, |t| ((t + 0.008) / 1.008 * PI / 2.0).cos().powi(2), MAX_BETA)
    }

    /// Diffusion-LM's sqrt schedule, 1 - sqrt(t + 1e-4).
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0.
    pub fn sqrt(steps: usize) -> Result<Self, Error> {
        Self::from_alpha_bar(steps, |t| 1.0 - (t + 0.0001).sqrt(), MAX_BETA)
    }

    /// Diffusion-LM's `trunc_cos`: cos^2(pi/2 (t + 0.1) / 1.1), whose first step jumps to alpha_bar(0) < 1.
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0.
    pub fn truncated_cosine(steps: usize) -> Result<Self, Error> {
        let alpha_bar = |t: f64| ((t + 0.1) / 1.1 * PI / 2.0).cos().powi(2);
        let time = |i: usize| i as f64 / steps as f64;
        let beta = |i: usize| {
            let kept = if i == 0 { alpha_bar(0.0) } else { alpha_bar(time(i)) / alpha_bar(time(i - 1)) };
            (1.0 - kept).min(MAX_BETA)
        };
        Self::new((0..steps).map(beta).collect())
    }

    /// Diffusion-LM's `trunc_lin`: [`linear`](Self::linear) with 0.01 added to every beta.
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0 or below 21.
    pub fn truncated_linear(steps: usize) -> Result<Self, Error> {
        let scale = 1000.0 / steps as f64;
        Self::new(linspace(scale * 1e-4 + 0.01, scale * 0.02 + 0.01, steps))
    }

    /// Diffusion-LM's `pw_lin`: ten steps falling from 0.01 above the linear start to it, then linear.
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is below 20.
    pub fn piecewise_linear(steps: usize) -> Result<Self, Error> {
        if steps < 20 {
            return Err(Error::Table { table: "betas", index: steps, found: f64::NAN, expected: "at least 20 steps" });
        }
        let scale = 1000.0 / steps as f64;
        let mut betas = linspace(scale * 1e-4 + 0.01, scale * 1e-4, 10);
        betas.extend(linspace(scale * 1e-4, scale * 0.02, steps - 10));
        Self::new(betas)
    }

    /// D3PM's linear betas from `start` to `stop` (0.02 to 1 for its uniform process).
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0 or a beta leaves \[0, 1\].
    pub fn d3pm_linear(steps: usize, start: f64, stop: f64) -> Result<Self, Error> {
        Self::new(linspace(start, stop, steps))
    }

    /// D3PM's cosine for images: cos(pi/2 (t + 0.008) / 1.008) *without* the square.
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0.
    pub fn d3pm_cosine(steps: usize) -> Result<Self, Error> {
        Self::from_alpha_bar(steps, |t| ((t + 0.008) / 1.008 * PI / 2.0).cos(), MAX_BETA)
    }

    /// D3PM's Jensen-Shannon betas, beta_t = 1 / (T - t + 1) for t = 1..=T: exactly alpha_bar = 1 - t / T, that is
    /// [`Linear`](crate::Linear).
    ///
    /// # Errors
    /// [`Error::Table`] if `steps` is 0.
    pub fn jsd(steps: usize) -> Result<Self, Error> {
        Self::new((0..steps).map(|i| 1.0 / (steps - i) as f64).collect())
    }

    /// The chain on the kept steps only: its betas are 1 - alphas_cumprod\[i\] / alphas_cumprod\[the kept one before\],
    /// so that the marginals at the kept steps do not change. Steps keep their times.
    ///
    /// # Errors
    /// [`Error::Spacing`] unless `steps` rises strictly and lies within the chain.
    ///
    /// # Source
    /// Nichol, Dhariwal (2021); Diffusion-LM's `respace.py`.
    pub fn respace(&self, steps: &[usize]) -> Result<Self, Error> {
        let (wanted, available) = (steps.len(), self.len());
        let bad = |reason| Err(Error::Spacing { wanted, available, reason });
        if steps.is_empty() || !steps.is_sorted_by(|a, b| a < b) {
            return bad("the kept steps must be at least one and rise strictly");
        }
        if steps[wanted - 1] >= available {
            return bad("a kept step lies beyond the chain's end");
        }
        let mut before = 1.0;
        let mut betas = Vec::with_capacity(wanted);
        for &i in steps {
            let now = self.alphas_cumprod[i];
            betas.push(if before > 0.0 { 1.0 - now / before } else { 1.0 });
            before = now;
        }
        Self::on_grid(betas, steps.iter().map(|&i| self.timestep_map[i]).collect(), self.original)
    }

    fn on_grid(betas: Vec<f64>, timestep_map: Vec<usize>, original: usize) -> Result<Self, Error> {
        if betas.is_empty() {
            return Err(Error::Table { table: "betas", index: 0, found: f64::NAN, expected: "at least one step" });
        }
        if let Some(index) = betas.iter().position(|beta| !(0.0..=1.0).contains(beta)) {
            return Err(Error::Table { table: "betas", index, found: betas[index], expected: "in [0, 1]" });
        }
        let mut product = 1.0;
        let alphas_cumprod: Vec<f64> = betas
            .iter()
            .map(|beta| {
                product *= 1.0 - beta;
                product
            })
            .collect();
        let times = timestep_map.iter().map(|&i| (i + 1) as f64 / original as f64);
        let table = Table::new(
            std::iter::once(0.0).chain(times).collect(),
            std::iter::once(1.0).chain(alphas_cumprod.iter().copied()).collect(),
        )?;
        Ok(Self { betas, alphas_cumprod, timestep_map, original, table })
    }

    /// The number of steps T, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a chain always has a step")]
    pub fn len(&self) -> usize {
        self.betas.len()
    }

    /// The betas, step by step.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// What is left after each step, prod of 1 - beta.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// For each step its index in the chain it was respaced from (its own index if it was not).
    pub fn timestep_map(&self) -> &[usize] {
        &self.timestep_map
    }

    /// The times after each step, descending, and 0: the grid a sampler walks down.
    pub fn grid(&self) -> Vec<f64> {
        self.table.times().iter().rev().copied().collect()
    }
}

impl Schedule for Betas {
    fn alpha_bar(&self, t: f64) -> f64 {
        self.table.alpha_bar(t)
    }
    fn rate(&self, t: f64) -> f64 {
        self.table.rate(t)
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        self.table.alpha_bar_derivative(t)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        self.table.time_of(alpha_bar)
    }
}

/// `n` numbers from `start` to `stop`, both included, by the same multiplication as the original tables.
fn linspace(start: f64, stop: f64, n: usize) -> Vec<f64> {
    let step = (stop - start) / (n.max(2) - 1) as f64;
    (0..n).map(|i| if i > 0 && i == n - 1 { stop } else { start + i as f64 * step }).collect()
}
