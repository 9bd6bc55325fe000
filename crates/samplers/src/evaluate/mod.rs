//! How good a model and its samples are, by numbers that need no other model.
//!
//! | number | of | function |
//! |---|---|---|
//! | NELBO in nats | a [`Denoiser`](galatea_processes::Denoiser) under a closed-form process | [`nelbo`] |
//! | Monte-Carlo likelihood (LLaDA) | a masked denoiser | [`masked_likelihood`] |
//! | -log p in one order | a masked denoiser | [`likelihood_in_order`] |
//! | perplexity under a scoring function | samples | [`generative_perplexity`] |
//! | unigram entropy | samples | [`unigram_entropy`] |
//!
//! Perplexities of samples go with their entropy: repeating one likely word has a good perplexity.

mod bound;
mod likelihood;
mod samples;

pub use bound::{BoundOptions, nelbo};
pub use likelihood::{LikelihoodOptions, likelihood_in_order, masked_likelihood};
pub use samples::{Perplexity, generative_perplexity, unigram_entropy};

/// A mean over random draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the draws over the root of their number: a bound from above on the mean's own where the
    /// draws are stratified. NaN for a single draw.
    pub standard_error: f64,
    /// The number of draws.
    pub draws: usize,
}

/// Mean and variance in one pass (Welford).
#[derive(Default)]
struct Mean {
    draws: usize,
    mean: f64,
    squares: f64,
}

impl Mean {
    fn push(&mut self, x: f64) {
        self.draws += 1;
        let before = x - self.mean;
        self.mean += before / self.draws as f64;
        self.squares += before * (x - self.mean);
    }

    fn estimate(&self) -> Estimate {
        let n = self.draws as f64;
        Estimate { mean: self.mean, standard_error: (self.squares / (n - 1.0) / n).sqrt(), draws: self.draws }
    }
}
