//! The weighted cross-entropy of a softmax, in one kernel: no tensor of probabilities exists.
//!
//! ```text
//! nll_n = log sum_j exp(logits_nj) - logits_n,target,   loss = sum_n w_n nll_n
//! dlogits_nj = dloss w_n (softmax(logits_n)_j - [j = target])
//! ```
//!
//! Shapes: logits `[.., v]`; target, w, nll `[..]`; loss `[1]`. The column `forbid` has probability zero: it is left
//! out of the sum and gets a zero gradient. A target that is forbidden or outside the vocabulary has an infinite nll. A
//! row of weight zero adds nothing to the loss and gets a zero gradient whatever it holds. The loss is summed over rows
//! in f64, in row order.
//!
//! The backward pass takes the largest logit and the sum again instead of log sum exp = nll + logits_target: the stored
//! number is rounded at the size of the logits, which at 1e4 moves every probability by 5e-4.
//!
//! Cost: 4 n v flops, 4 n v bytes forward, 8 n v bytes backward, one exponential an element in each.
//!
//! # Source
//! Goodfellow, Bengio, Courville (2016), "Deep learning", section 6.2.2.3; as the loss of masked diffusion: Sahoo et
//! al. (2024), "Simple and effective masked diffusion language models", equation 10.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{allowed, sum_of, weighted_sum};
pub use cpu::{backward, forward};
