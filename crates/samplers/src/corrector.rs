//! Drawing some positions again between two steps, without moving in time.

use crate::Error;
use crate::draws::{At, Draws, stream};
use crate::error::parameter;

/// A Gibbs corrector: at the level that a step has reached, some positions are drawn again from
/// q_s(x^l | the others) = Fwd_s(p(x_0^l | the others)).
///
/// One position at a time, chosen at random, leaves the law at s alone, so sweeps repair what drawing positions
/// independently has spoilt. Every sweep asks the denoiser once. Noise must let tokens change (uniform, hybrid,
/// matrices): a model of masks knows nothing about a token that is written.
///
/// # Source
/// Reparameterised uniform diffusion with the leave-one-out denoiser (2026), arXiv:2605.22765, equation 13 (the division
/// by the own token's likelihood is [`Conditioning::All`](crate::Conditioning)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gibbs {
    /// How many sweeps follow a step.
    pub sweeps: usize,
    /// How many positions of a text a sweep draws again.
    pub positions: usize,
    /// Which.
    pub pick: Pick,
}

/// Which positions a corrector draws again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pick {
    /// At random, all alike.
    #[default]
    Random,
    /// At random with probability proportional to exp(-m / temperature), m being the log-probability of the present token
    /// less that of the likeliest other one: doubtful tokens first (Gumbel's top-k without replacement).
    Margin {
        /// Above 0; lower is greedier.
        temperature: f64,
    },
}

impl Gibbs {
    pub(crate) fn check(&self) -> Result<(), Error> {
        parameter("positions", "at least 1", self.positions as f64, self.positions > 0)?;
        match self.pick {
            Pick::Random => {}
            Pick::Margin { temperature } => {
                parameter("temperature", "above 0", temperature, temperature > 0.0 && temperature.is_finite())?;
            }
        }
        Ok(())
    }
}

impl Pick {
    /// The key of a position: the largest are drawn again. `q` is the law of the position given the others.
    pub(crate) fn key(self, q: &[f64], x_t: u32, draws: &mut dyn Draws, at: At) -> f64 {
        let mut u = [0.0];
        draws.uniforms(stream::CHOICE, at, &mut u);
        let gumbel = -(-u[0].clamp(1e-12, 1.0 - 1e-12).ln()).ln();
        match self {
            Self::Random => gumbel,
            Self::Margin { temperature } => {
                let others = q.iter().enumerate().filter(|(k, _)| *k != x_t as usize).map(|(_, &q)| q);
                let margin = q[x_t as usize].ln() - others.fold(0.0, f64::max).ln();
                -margin / temperature + gumbel
            }
        }
    }
}

/// The positions with the largest keys of a row.
pub(crate) struct Choice {
    count: usize,
    chosen: Vec<(f64, (usize, usize, u32))>,
}

impl Choice {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, chosen: Vec::with_capacity(count) }
    }

    /// Forgets the last row.
    pub(crate) fn clear(&mut self) {
        self.chosen.clear();
    }

    /// Takes a position if its key is among the largest so far; only then is its token drawn.
    pub(crate) fn offer(&mut self, key: f64, token: impl FnOnce() -> (usize, usize, u32)) {
        if self.chosen.len() < self.count {
            self.chosen.push((key, token()));
            return;
        }
        let least = (0..self.chosen.len()).min_by(|&a, &b| self.chosen[a].0.total_cmp(&self.chosen[b].0));
        if let Some(least) = least.filter(|&least| key > self.chosen[least].0) {
            self.chosen[least] = (key, token());
        }
    }

    /// The tokens that were taken.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = (usize, usize, u32)> {
        self.chosen.iter().map(|(_, token)| *token)
    }
}
