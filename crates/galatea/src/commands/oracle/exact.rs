//! What a perfect network knows, in `f64`: chain rule, entropies, and the loss that nobody can beat. (The logits of a denoiser are
//! `f32`, whose digits do not show that every order gives one number.)

use galatea_random::Philox;
use galatea_text::language::{Error, ExactModel};
use ndarray::Array2;
use std::f64::consts::LN_2;

/// Streams of the oracle's draws.
pub(super) mod stream {
    pub(in crate::commands::oracle) const STORY: u32 = 31;
    pub(super) const ORDER: u32 = 32;
    pub(super) const FLOOR: u32 = 34;
}

/// An exact source with a canvas to ask it about.
pub(super) struct Oracle<'a, M> {
    model: &'a M,
    seed: u64,
    log_evidence: Array2<f64>,
    marginals: Array2<f64>,
}

/// A mean of independent draws and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) error: f64,
}

impl Estimate {
    pub(super) fn of(draws: &[f64]) -> Self {
        let n = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Self { mean, error: (variance / n).sqrt() }
    }
}

impl<'a, M: ExactModel> Oracle<'a, M> {
    pub(super) fn new(model: &'a M, seed: u64) -> Self {
        let shape = (model.len(), model.vocab());
        Self { model, seed, log_evidence: Array2::zeros(shape), marginals: Array2::zeros(shape) }
    }

    /// Observes `x` where `known` says so, and answers with the marginals p(x_i | what is known).
    fn ask(&mut self, x: &[u32], known: impl Fn(usize) -> bool) -> Result<&Array2<f64>, Error> {
        for (i, mut row) in self.log_evidence.outer_iter_mut().enumerate() {
            row.fill(if known(i) { f64::NEG_INFINITY } else { 0.0 });
            row[x[i] as usize] = 0.0;
        }
        self.model.posterior_log(&self.log_evidence, &mut self.marginals)?;
        Ok(&self.marginals)
    }

    /// -log2 p(x) as the sum of -log2 p(x_i | the positions before i) along the random order number `number`.
    pub(super) fn along_an_order(&mut self, x: &[u32], number: u32) -> Result<f64, Error> {
        let mut rng = Philox::new(self.seed, stream::ORDER, 0, number);
        let order = shuffled(x.len(), &mut rng);
        let mut known = vec![false; x.len()];
        let mut bits = 0.0;
        for i in order {
            let p = self.ask(x, |j| known[j])?[[i, x[i] as usize]];
            bits -= p.log2();
            known[i] = true;
        }
        Ok(bits)
    }

    /// The sum over positions of H(x_i) in bits: what one pass over a blank canvas can know.
    pub(super) fn marginal_bits(&mut self) -> Result<f64, Error> {
        self.log_evidence.fill(0.0);
        self.model.posterior_log(&self.log_evidence, &mut self.marginals)?;
        Ok(self.marginals.outer_iter().map(|p| entropy(p.iter())).sum::<f64>() / LN_2)
    }

    /// The least cross-entropy per masked token, in nats, where each token is masked with probability `ratio`: the mean
    /// entropy of p(x_i | x_t) over masked i.
    pub(super) fn floor(&mut self, ratio: f64, stories: u32) -> Result<f64, Error> {
        let (mut nats, mut tokens) = (0.0, 0.0);
        for number in 0..stories {
            let mut rng = Philox::new(self.seed, stream::FLOOR, (ratio * 1e6) as u32, number);
            let x = self.model.sample(&mut rng);
            let masked: Vec<bool> = x.iter().map(|_| rng.uniform() < ratio).collect();
            let marginals = self.ask(&x, |i| !masked[i])?;
            for i in (0..x.len()).filter(|&i| masked[i]) {
                nats += entropy(marginals.row(i).iter());
                tokens += 1.0;
            }
        }
        Ok(if tokens > 0.0 { nats / tokens } else { 0.0 })
    }
}

/// -sum p ln p, with 0 ln 0 = 0.
fn entropy<'p>(p: impl Iterator<Item = &'p f64>) -> f64 {
    p.filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// 0..n in a random order (Fisher and Yates).
fn shuffled(n: usize, rng: &mut Philox) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.below(i + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_text::language::{Level, StoryLanguage, Sudoku4};

    #[test]
    fn the_chain_rule_gives_one_number_along_any_order() {
        let language = StoryLanguage::new(Level::One);
        let mut oracle = Oracle::new(&language, 5);
        let x = language.sample(&mut Philox::new(5, stream::STORY, 0, 0));
        let bits = -language.log_prob(&x) / LN_2;
        for number in 0..4 {
            let along = oracle.along_an_order(&x, number).expect("a story of the language");
            assert!((along - bits).abs() < 1e-9, "{along} {bits}");
        }
    }

    #[test]
    fn a_blank_canvas_costs_its_marginals_and_a_known_one_nothing() {
        let sudoku = Sudoku4::new();
        let mut oracle = Oracle::new(&sudoku, 7);
        // Every cell of a 4 x 4 sudoku is uniform over four digits: two bits.
        assert!((oracle.marginal_bits().expect("a blank canvas") - 32.0).abs() < 1e-9);
        let all = oracle.floor(1.0, 3).expect("grids");
        assert!((all - 4f64.ln()).abs() < 1e-9, "{all}");
        let (few, many) = (oracle.floor(0.2, 200).expect("grids"), oracle.floor(0.8, 200).expect("grids"));
        assert!(few < many && many < all, "{few} {many} {all}");
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut order = shuffled(20, &mut Philox::new(1, 0, 0, 0));
        order.sort_unstable();
        assert_eq!(order, (0..20).collect::<Vec<_>>());
    }
}
