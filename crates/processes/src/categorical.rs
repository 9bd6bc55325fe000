//! Categorical processes whose noise is a fixed distribution: uniform over the vocabulary, or a mask.

use crate::error::{same_shape, unit_interval};
use crate::{CategoricalStep, Error};
use galatea_random::{block, unit_f64};
use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2};

/// The distribution pi that a token forgets itself into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Every id of the vocabulary alike.
    Uniform,
    /// Always this id: absorbing, or masked, diffusion.
    Mask(u32),
}

/// The process q(x_t | x_0) = alpha_bar_t x_0 + (1 - alpha_bar_t) pi over `vocab` ids (the mask id included).
///
/// Between s < t it is the Markov chain Q_ts = r I + (1 - r) 1 piᵀ with r = alpha_bar_t / alpha_bar_s: a token is its
/// old self with probability r and else a fresh draw from pi. No V x V matrix is built except by
/// [`transition`](Self::transition) and [`q_bar`](Self::q_bar), which exist for study and tests.
///
/// # Source
/// Austin et al. (2021), "Structured denoising diffusion models in discrete state-spaces", section 3.1 and appendix A;
/// `docs/derivations/categorical.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Categorical {
    vocab: usize,
    limit: Limit,
}

impl Categorical {
    /// The process over `vocab` ids with the given limit; a mask id counts as one of the ids.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] below two ids, [`Error::Mask`] if the mask is not one of them.
    pub fn new(vocab: usize, limit: Limit) -> Result<Self, Error> {
        if vocab < 2 || vocab > u32::MAX as usize {
            return Err(Error::Vocabulary { expected: 2, found: vocab });
        }
        match limit {
            Limit::Mask(mask) if mask as usize >= vocab => Err(Error::Mask { mask, vocab }),
            Limit::Mask(_) | Limit::Uniform => Ok(Self { vocab, limit }),
        }
    }

    /// The number of ids, the mask included.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// What noise is.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// pi(k), the probability of id `k` under pure noise.
    #[inline]
    pub fn pi(&self, k: u32) -> f64 {
        match self.limit {
            Limit::Uniform => 1.0 / self.vocab as f64,
            Limit::Mask(mask) => f64::from(u8::from(k == mask)),
        }
    }

    /// Draws x_t from q(x_t | x_0): each token stays with probability alpha_bar of its row, else it is drawn from pi.
    ///
    /// # Shapes
    /// `x_0` and `x_t` \[batch, len\], `alpha_bar` \[batch\]. Position l of row b reads block l of the counter
    /// (`seed`, `stream`, `step`, b), so a draw depends neither on the batch's size nor on its length.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, [`Error::Parameter`] for an alpha_bar outside \[0, 1\], [`Error::Token`] for an id
    /// outside the vocabulary.
    pub fn corrupt(
        &self,
        x_0: &ArrayRef2<u32>,
        alpha_bar: &ArrayRef1<f64>,
        seed: u64,
        stream: u32,
        step: u32,
        x_t: &mut ArrayRef2<u32>,
    ) -> Result<(), Error> {
        same_shape("x_t", x_0.shape(), x_t.shape())?;
        same_shape("alpha_bar", &[x_0.nrows()], alpha_bar.shape())?;
        unit_interval("alpha_bar", alpha_bar)?;
        for ((row, position), &token) in x_0.indexed_iter() {
            if token as usize >= self.vocab {
                return Err(Error::Token { token, row, position, vocab: self.vocab });
            }
            let words = block(seed, stream, step, row as u32, position as u32);
            x_t[[row, position]] = self.corrupt_token(token, alpha_bar[row], words);
        }
        Ok(())
    }

    /// One token of [`corrupt`](Self::corrupt), given four random words: two decide whether it stays, two what it becomes.
    #[inline]
    pub fn corrupt_token(&self, x_0: u32, alpha_bar: f64, words: [u32; 4]) -> u32 {
        if unit_f64([words[0], words[1]]) < alpha_bar {
            return x_0;
        }
        match self.limit {
            Limit::Mask(mask) => mask,
            Limit::Uniform => {
                let word = u64::from(words[2]) << 32 | u64::from(words[3]);
                ((u128::from(word) * self.vocab as u128) >> 64) as u32
            }
        }
    }

    /// The distribution q(x_t | x_0) = alpha_bar x_0 + (1 - alpha_bar) pi.
    ///
    /// # Shapes
    /// \[vocab\], summing to 1.
    pub fn marginal(&self, x_0: u32, alpha_bar: f64) -> Array1<f64> {
        let mut q = self.prior() * (1.0 - alpha_bar);
        if let Some(own) = q.get_mut(x_0 as usize) {
            *own += alpha_bar;
        }
        q
    }

    /// The distribution pi of pure noise, \[vocab\].
    pub fn prior(&self) -> Array1<f64> {
        (0..self.vocab as u32).map(|k| self.pi(k)).collect()
    }

    /// The reverse step from `t` to `s` as three routes; see [`CategoricalStep`].
    ///
    /// keep = r (1 - alpha_bar_s), jump = (1 - r) alpha_bar_s, draw = (1 - r)(1 - alpha_bar_s), each over
    /// 1 - alpha_bar_t. Without noise at t (alpha_bar_t = 1) everything is kept.
    pub fn step(&self, alpha_bar_t: f64, alpha_bar_s: f64, t: f64, s: f64) -> CategoricalStep {
        let noise = 1.0 - alpha_bar_t;
        if noise <= 0.0 {
            return CategoricalStep { t, s, keep: 1.0, jump: 0.0, draw: 0.0 };
        }
        let r = ratio(alpha_bar_t, alpha_bar_s);
        CategoricalStep {
            t,
            s,
            keep: r * (1.0 - alpha_bar_s) / noise,
            jump: (1.0 - r) * alpha_bar_s / noise,
            draw: (1.0 - r) * (1.0 - alpha_bar_s) / noise,
        }
    }

    /// The routes of the posterior for a *soft* x_0 that gives the observed token x_t the probability `p_at_x_t`: keep
    /// x_t, jump to a draw from p, or draw from pi. Exact for both limits and every p, the hit x_t = x_0 included.
    ///
    /// For the mask limit pass the probability at the mask (0 under SUBS) and use it at masked positions only.
    pub fn soft_step(&self, alpha_bar_t: f64, alpha_bar_s: f64, t: f64, s: f64, p_at_x_t: f64) -> CategoricalStep {
        let routes = self.step(alpha_bar_t, alpha_bar_s, t, s);
        let noise = 1.0 - alpha_bar_t;
        // In units of pi(x_t): V for the uniform limit, 1 at a mask.
        let weight = match self.limit {
            Limit::Uniform => self.vocab as f64,
            Limit::Mask(_) => 1.0,
        };
        let hit = weight * alpha_bar_t * p_at_x_t;
        let total = hit + noise;
        if total <= 0.0 {
            return CategoricalStep { keep: 1.0, jump: 0.0, draw: 0.0, ..routes };
        }
        CategoricalStep {
            keep: (hit + routes.keep * noise) / total,
            jump: routes.jump * noise / total,
            draw: routes.draw * noise / total,
            ..routes
        }
    }

    /// KL(q(x_1 | x_0) || pi) in nats: what the bound pays for signal left at t = 1.
    ///
    /// Infinite for the mask limit unless `alpha_bar` is 0: a token that can survive to the end has no place under a
    /// prior of masks only. Bounds in use leave this term out and end their schedule at 0 or nearly.
    pub fn prior_kl(&self, alpha_bar: f64) -> f64 {
        match self.limit {
            Limit::Mask(_) => {
                if alpha_bar > 0.0 {
                    f64::INFINITY
                } else {
                    0.0
                }
            }
            Limit::Uniform => {
                let (v, noise) = (self.vocab as f64, 1.0 - alpha_bar);
                let own = alpha_bar + noise / v;
                let others = if noise > 0.0 { (v - 1.0) / v * noise * noise.ln() } else { 0.0 };
                own * (v * own).ln() + others
            }
        }
    }

    /// The dense transition matrix Q_ts = r I + (1 - r) 1 piᵀ for `r` = alpha_bar_t / alpha_bar_s (for one step of a
    /// chain, r = 1 - beta).
    ///
    /// # Shapes
    /// \[vocab, vocab\], row i being q(x_t | x_s = i).
    pub fn transition(&self, r: f64) -> Array2<f64> {
        Array2::from_shape_fn((self.vocab, self.vocab), |(i, j)| {
            r * f64::from(u8::from(i == j)) + (1.0 - r) * self.pi(j as u32)
        })
    }

    /// The dense cumulative matrix Q_bar_t: [`transition`](Self::transition) from the data, with r = alpha_bar_t.
    pub fn q_bar(&self, alpha_bar: f64) -> Array2<f64> {
        self.transition(alpha_bar)
    }
}

/// alpha_bar_t / alpha_bar_s, at most 1; 1 where both are 0, since no signal is then lost.
pub(crate) fn ratio(alpha_bar_t: f64, alpha_bar_s: f64) -> f64 {
    if alpha_bar_s > 0.0 { (alpha_bar_t / alpha_bar_s).min(1.0) } else { 1.0 }
}
