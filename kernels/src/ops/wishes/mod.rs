//! How likely a model makes what is wished of a text: the function whose gradient guides a sampler.
//!
//! ```text
//! lp_l = log softmax(logits_l)[token]
//! log p = lp_l at a position;  log(sum_l exp lp_l) - len at any of them;  sum_l lp_l at all of them
//! a complement wishes the opposite, log(1 - p), taken position by position before a sum over all of them
//! loss = sum_b sum_k weight_k log p_bk
//! dlogits_l = dloss sum_k weight_k (d log p_bk / d lp_l) (onehot(token_k) - softmax(logits_l))
//! ```
//!
//! Shapes: logits, dlogits f32 [b, l, v]; wishes u32 [k, 3] = (token, position or [`crate::op::Wish::ANY`] or
//! [`crate::op::Wish::ALL`], 1 for a complement); weight f32 [k]; lse f32 [b, l], the normaliser of every row. A token or
//! position outside the tensor wishes nothing. The constant - len follows the published code, where a mean would have - ln len;
//! it moves the gradient of a complement alone. For a complement p stays below 1 - 1e-7, so that the gradient is finite. Few
//! numbers a row, in f64. Cost: 14 operations an element, 4 bytes forward and 8 backward.
//!
//! # Source
//! Gulrajani & Hashimoto (2023), "Likelihood-based diffusion language models", section 5 (token guidance; `sample.py` of its
//! code).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{Dims, backward, forward};
