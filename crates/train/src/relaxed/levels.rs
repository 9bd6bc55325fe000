//! Where a bound's bits lie: noise level by noise level, beside what the same noisy embeddings are worth to who knows the language.

use crate::Error;
use galatea_text::language::{ExactModel, StoryLanguage};
use ndarray::{Array2, ArrayRef2};
use std::f64::consts::LN_2;
use std::ops::AddAssign;

/// One quantity under three readers of the same noisy embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readers {
    /// The network.
    pub model: f64,
    /// Bayes' rule at every position alone: what stands there in the language, and that position's own embedding. It has all but
    /// what words tell of each other, so a network that reads no other word can at best equal it.
    pub alone: f64,
    /// The language's posterior given every noisy embedding, which nothing beats on average. Its bound is the entropy.
    pub exact: f64,
}

impl Readers {
    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { model: f(self.model), alone: f(self.alone), exact: f(self.exact) }
    }
}

impl AddAssign for Readers {
    fn add_assign(&mut self, other: Self) {
        self.model += other.model;
        self.alone += other.alone;
        self.exact += other.exact;
    }
}

/// A sixteenth of the schedule's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    /// -log SNR in its middle.
    pub gamma: f64,
    /// |x_0 - x_0_hat|² of a token.
    pub error: Readers,
    /// What it adds to the bound, bits a row.
    pub bits: Readers,
}

/// A bound, part by part.
#[derive(Clone, Debug, PartialEq)]
pub struct ByLevel {
    /// From the least noise to the most.
    pub levels: Vec<Level>,
    /// What is left of the signal at t = 1, bits a row.
    pub prior: f64,
    /// The cross-entropy of the tokens at t = 0, bits a row.
    pub reconstruction: Readers,
}

impl ByLevel {
    /// The bound in bits a row.
    pub fn total(&self) -> Readers {
        let mut total = self.reconstruction.map(|bits| bits + self.prior);
        self.levels.iter().for_each(|level| total += level.bits);
        total
    }
}

/// How many levels there are.
const COUNT: usize = 16;

/// The two readers that know the language.
pub(super) struct Judge<'a> {
    language: &'a StoryLanguage,
    /// E, rows of unit length [vocab, d].
    e: Array2<f64>,
    /// log p(x_i = v), [len, vocab].
    log_p: Array2<f64>,
}

/// (cross-entropy, squared error) of a row, summed over its tokens.
type Sums = (f64, f64);

impl<'a> Judge<'a> {
    pub(super) fn new(language: &'a StoryLanguage, e: Array2<f64>) -> Result<Self, Error> {
        let mut p = Array2::zeros((language.len(), language.vocab()));
        language.posterior_log(&Array2::zeros(p.dim()), &mut p)?;
        Ok(Self { language, e, log_p: p.mapv_into(f64::ln) })
    }

    /// What a row `x_0` costs each of the two, given its noisy embeddings z = alpha e + sigma noise at `gamma`: alone, exact.
    ///
    /// # Shapes
    /// `z` \[len, d\], `x_0` \[len\].
    pub(super) fn read(&self, z: &ArrayRef2<f64>, gamma: f64, x_0: &[u32]) -> Result<[Sums; 2], Error> {
        // log q(z | e) of embeddings of one length is alpha / sigma² z·e; alpha / sigma² = sqrt(sigmoid(-gamma)) / sigmoid(gamma).
        let scale = (1.0 + (-gamma).exp()) / (1.0 + gamma.exp()).sqrt();
        let log_q = z.dot(&self.e.t()) * scale;
        let mut exact = Array2::zeros(log_q.dim());
        self.language.posterior_log(&log_q, &mut exact)?;
        let mut alone = log_q + &self.log_p;
        for mut row in alone.outer_iter_mut() {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.mapv_inplace(|x| (x - max).exp());
            row /= row.sum();
        }
        Ok([alone, exact].map(|p| self.cost(&p, x_0)))
    }

    fn cost(&self, p: &Array2<f64>, x_0: &[u32]) -> Sums {
        let x_0_hat = p.dot(&self.e);
        let token = |(i, &x): (usize, &u32)| {
            let error = (&x_0_hat.row(i) - &self.e.row(x as usize)).mapv(|d| d * d).sum();
            (-p[[i, x as usize]].max(f64::MIN_POSITIVE).ln(), error)
        };
        x_0.iter().enumerate().map(token).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// Sums of what is measured, level by level.
pub(super) struct Tally {
    levels: [(Level, f64); COUNT],
    reconstruction: Readers,
    rows: f64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { levels: [(Level::default(), 0.0); COUNT], reconstruction: Readers::default(), rows: 0.0 }
    }

    /// A row at time t, whose squared error weighs `weight` in the bound.
    pub(super) fn diffusion(&mut self, t: f64, weight: f64, error: Readers) {
        let (level, count) = &mut self.levels[((t * COUNT as f64) as usize).min(COUNT - 1)];
        level.error += error;
        level.bits += error.map(|error| error * weight);
        *count += 1.0;
    }

    /// A row at t = 0.
    pub(super) fn reconstruction(&mut self, nll: Readers) {
        self.reconstruction += nll;
        self.rows += 1.0;
    }

    /// Means, for rows of `len` tokens under a schedule, with a prior term of as many nats a row.
    pub(super) fn means(self, len: usize, gamma: impl Fn(f64) -> f64, prior: f64) -> ByLevel {
        let mean = |(i, (sum, count)): (usize, (Level, f64))| Level {
            gamma: gamma((i as f64 + 0.5) / COUNT as f64),
            error: sum.error.map(|error| error / (count * len as f64)),
            bits: sum.bits.map(|bits| bits / (count * COUNT as f64 * LN_2)),
        };
        ByLevel {
            levels: self.levels.into_iter().enumerate().map(mean).collect(),
            prior: prior / LN_2,
            reconstruction: self.reconstruction.map(|nll| nll / (self.rows * LN_2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_processes::objectives::bound;
    use galatea_random::Philox;
    use galatea_text::language::Level as Difficulty;

    /// The bound of the two readers over rows of the language, for random unit embeddings of `d` dimensions.
    fn bounds(language: &StoryLanguage, d: usize, ends: (f64, f64), rows: u32) -> [f64; 2] {
        let mut rng = Philox::new(3, 0, 0, 0);
        let mut e = Array2::from_shape_simple_fn((language.vocab(), d), || rng.normal());
        e.rows_mut().into_iter().for_each(|mut row| row /= row.dot(&row).sqrt());
        let judge = Judge::new(language, e.clone()).expect("a language has marginals");
        let (from, to) = ends;
        let mut tally = Tally::new();
        for row in 0..rows {
            let mut rng = Philox::new(4, 0, 0, row);
            let x_0 = language.sample(&mut rng);
            let mut read = |gamma: f64| {
                let (signal, sigma) = (1.0 / (1.0 + f64::exp(gamma)), 1.0 / (1.0 + f64::exp(-gamma)));
                let z = Array2::from_shape_fn((x_0.len(), d), |(i, k)| {
                    signal.sqrt() * e[[x_0[i] as usize, k]] + sigma.sqrt() * rng.normal()
                });
                let [alone, exact] = judge.read(&z, gamma, &x_0).expect("a story is possible");
                (alone, exact)
            };
            for stratum in 0..COUNT {
                let t = (stratum as f64 + (f64::from(row) * 0.618).fract()) / COUNT as f64;
                let gamma = from + (to - from) * t;
                let (alone, exact) = read(gamma);
                let error = Readers { model: 0.0, alone: alone.1, exact: exact.1 };
                tally.diffusion(t, bound::weight_of_gamma(gamma, to - from), error);
            }
            let (alone, exact) = read(from);
            tally.reconstruction(Readers { model: 0.0, alone: alone.0, exact: exact.0 });
        }
        let prior = bound::prior(to, 1.0, d).0 * language.len() as f64;
        let total = tally.means(language.len(), |t| from + (to - from) * t, prior).total();
        [total.alone, total.exact]
    }

    /// The relation of information and squared error: whatever the embeddings and the ends of the schedule, the exact reader's
    /// bound is the entropy, and that of a reader of single positions the sum of the entropies of the positions.
    #[test]
    fn the_bound_of_the_exact_reader_is_the_entropy() {
        let language = StoryLanguage::new(Difficulty::One);
        let mut p = Array2::zeros((language.len(), language.vocab()));
        language.posterior_log(&Array2::zeros(p.dim()), &mut p).expect("no evidence is no contradiction");
        let alone = -p.iter().filter(|p| **p > 0.0).map(|p| p * p.log2()).sum::<f64>();
        let exact = language.entropy() / LN_2;
        assert!(alone > exact + 15.0, "{alone} and {exact}: words tell much of each other");
        for (d, ends) in [(16, (-3.0, 6.0)), (8, (-4.0, 7.0))] {
            let [found_alone, found_exact] = bounds(&language, d, ends, 300);
            assert!((found_alone - alone).abs() < 1.5, "{d} {ends:?}: {found_alone} and {alone}");
            assert!((found_exact - exact).abs() < 1.5, "{d} {ends:?}: {found_exact} and {exact}");
        }
    }
}
