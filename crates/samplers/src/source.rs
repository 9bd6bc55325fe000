//! A source of three tokens in two positions or more whose conditional distributions are known exactly: the truth that
//! the samplers' laws are tested against.

use crate::{Ancestral, AncestralOptions, Conditioning, Fixed, Levels};
use galatea_processes::{Categorical, Denoiser, EmbeddingDenoiser, Limit};
use galatea_schedules::{Linear, Schedule, grid};
use ndarray::{Array2, ArrayRef2, ArrayRef3, array};
use std::convert::Infallible;

/// The tokens of the source; a mask is the id after them.
pub(crate) const TOKENS: usize = 3;

/// A joint distribution over texts of `len` tokens, as the weight of text number n, whose digits in base 3 are its
/// tokens (the first the most significant).
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) len: usize,
    pub(crate) joint: Vec<f64>,
    pub(crate) evidence: Evidence,
    /// Whether a position's own noisy token counts as evidence.
    pub(crate) conditioning: Conditioning,
}

/// What a noisy token says about the clean one.
#[derive(Clone, Copy)]
pub(crate) enum Evidence {
    Tokens(Limit),
    /// Embeddings of [`table`] under Gaussian noise.
    Embeddings,
}

/// A correlated law in which no token and no pair is like another.
pub(crate) fn source(len: usize, evidence: Evidence) -> Source {
    let count = TOKENS.pow(len as u32);
    let weight = |n: usize| {
        let text = digits(n, len);
        let agree = text.windows(2).filter(|w| w[0] == w[1]).count() as f64;
        (1.0 + agree * 2.0) * (1.0 + text[0] as f64) + ((n * 7) % 5) as f64 * 0.4
    };
    let total: f64 = (0..count).map(weight).sum();
    Source { len, joint: (0..count).map(|n| weight(n) / total).collect(), evidence, conditioning: Conditioning::All }
}

pub(crate) fn table() -> Array2<f32> {
    array![[1.5, 0.0], [-1.0, 1.0], [-0.5, -1.5]]
}

pub(crate) fn digits(n: usize, len: usize) -> Vec<u32> {
    (0..len).map(|l| (n / TOKENS.pow((len - 1 - l) as u32) % TOKENS) as u32).collect()
}

pub(crate) fn number(text: impl IntoIterator<Item = u32>) -> usize {
    text.into_iter().fold(0, |n, token| n * TOKENS + token as usize)
}

impl Source {
    /// p(x_0^l = v | evidence) for every position, \[len\]\[TOKENS\], given likelihood(l, v).
    fn marginals(&self, likelihood: impl Fn(usize, u32) -> f64) -> Vec<[f64; TOKENS]> {
        let mut marginals = vec![[0.0; TOKENS]; self.len];
        for (n, &weight) in self.joint.iter().enumerate() {
            let text = digits(n, self.len);
            for l in 0..self.len {
                let seen = |k: usize| k != l || self.conditioning == Conditioning::All;
                let evidence: f64 = (0..self.len).filter(|&k| seen(k)).map(|k| likelihood(k, text[k])).product();
                marginals[l][text[l] as usize] += weight * evidence;
            }
        }
        for row in &mut marginals {
            let total: f64 = row.iter().sum();
            row.iter_mut().for_each(|p| *p /= total);
        }
        marginals
    }
}

impl Denoiser for Source {
    type Error = Infallible;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        let Evidence::Tokens(limit) = self.evidence else { panic!("this source speaks of embeddings") };
        let alpha_bar = Linear.alpha_bar(t);
        for (row, text) in x_t.rows().into_iter().enumerate() {
            let marginals = self.marginals(|l, v| match limit {
                Limit::Mask(mask) => f64::from(u8::from(text[l] == mask || text[l] == v)),
                Limit::Uniform => alpha_bar * f64::from(u8::from(text[l] == v)) + (1.0 - alpha_bar) / TOKENS as f64,
            });
            for (l, p) in marginals.iter().enumerate() {
                for v in 0..logits.dim().2 {
                    // A model with a mask among its ids says something about it as well; samplers must not listen.
                    logits[[row, l, v]] = p.get(v).map_or(5.0, |p| p.ln() as f32);
                }
            }
        }
        Ok(())
    }
}

impl EmbeddingDenoiser for Source {
    type Error = Infallible;

    fn denoise(&mut self, z_t: &ArrayRef3<f32>, t: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        let alpha_bar = Linear.alpha_bar(t).max(1e-9);
        let table = table();
        for (row, z) in z_t.outer_iter().enumerate() {
            let square = |l: usize, v: u32| -> f64 {
                let difference = |k: usize| f64::from(z[[l, k]]) - alpha_bar.sqrt() * f64::from(table[[v as usize, k]]);
                (0..2).map(|k| difference(k).powi(2)).sum()
            };
            let least = |l: usize| (0..TOKENS as u32).map(|v| square(l, v)).fold(f64::INFINITY, f64::min);
            let marginals = self.marginals(|l, v| (-(square(l, v) - least(l)) / (2.0 * (1.0 - alpha_bar))).exp());
            for (l, p) in marginals.iter().enumerate() {
                for k in 0..2 {
                    x_0_hat[[row, l, k]] = (0..TOKENS).map(|v| p[v] as f32 * table[[v, k]]).sum();
                }
            }
        }
        Ok(())
    }
}

/// Pearson's statistic of counts against a law, and its 0.1 % quantile (Wilson and Hilferty's approximation).
pub(crate) fn chi_square(counts: &[usize], law: &[f64]) -> (f64, f64) {
    let n = counts.iter().sum::<usize>() as f64;
    let cells = counts.iter().zip(law).filter(|(_, p)| **p > 0.0);
    let statistic = cells.clone().map(|(&c, &p)| (c as f64 - n * p).powi(2) / (n * p)).sum();
    assert!(counts.iter().zip(law).all(|(&c, &p)| p > 0.0 || c == 0), "a text of probability 0 was drawn");
    let freedom = cells.count() as f64 - 1.0;
    let h = 2.0 / (9.0 * freedom);
    (statistic, freedom * (1.0 - h + 3.09 * h.sqrt()).powi(3))
}

/// The mask limit of [`process`].
pub(crate) const MASK: Limit = Limit::Mask(TOKENS as u32);

pub(crate) fn process(limit: Limit) -> Categorical {
    match limit {
        Limit::Mask(_) => Categorical::new(TOKENS + 1, limit).expect("the mask is the last id"),
        Limit::Uniform => Categorical::new(TOKENS, limit).expect("three ids"),
    }
}

pub(crate) fn levels(steps: usize) -> Levels {
    Levels::new(&Linear, &grid::uniform(steps)).expect("a grid descends")
}

pub(crate) fn exact(limit: Limit, len: usize) -> Source {
    source(len, Evidence::Tokens(limit))
}

pub(crate) const CONDITIONINGS: [Conditioning; 2] = [Conditioning::Others, Conditioning::All];

pub(crate) fn ancestral(limit: Limit, len: usize, steps: usize, fixed: Fixed, seed: u64) -> Ancestral<Source> {
    conditioned(Conditioning::Others, limit, len, steps, fixed, seed)
}

pub(crate) fn conditioned(
    conditioning: Conditioning,
    limit: Limit,
    len: usize,
    steps: usize,
    fixed: Fixed,
    seed: u64,
) -> Ancestral<Source> {
    let options = AncestralOptions { seed, conditioning, ..Default::default() };
    let denoiser = Source { conditioning, ..exact(limit, len) };
    Ancestral::new(denoiser, process(limit), levels(steps), fixed, options).expect("sound arguments")
}
