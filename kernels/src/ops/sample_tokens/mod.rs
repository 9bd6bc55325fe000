//! Draws a token of every row from the softmax of its logits, with the numbers that decoding orders ask for.
//!
//! ```text
//! id ~ softmax(logits / temperature) by the inverse of its cumulative sum; temperature 0: the largest, lowest id first
//! log_p = log softmax(logits)_id,   entropy = -sum_j p_j log p_j,  p = softmax(logits)
//! ```
//!
//! Shapes: logits `[.., v]`; ids, log_p, entropy `[..]`. The column `forbid` is left out of every softmax. The uniform
//! number of row n is two words (52 bits: 23 would never reach the tail of a large vocabulary) of the block (seed,
//! stream, step, n, 0). The cumulative sum is kept in f64 over at most 256 parts of the row; inside the part that holds
//! the draw it goes column by column. A row without a finite weight gives NaN in log_p and entropy, and some allowed
//! id. Cost: one exponential an element (two where the temperature is neither 0 nor 1); 4 n v bytes.
//!
//! # Source
//! Devroye (1986), "Non-uniform random variate generation", section III.2.1 (inversion); Zheng et al. (2024), "Masked
//! diffusion models are secretly time-agnostic masked models and exploit inaccurate categorical sampling".

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use cpu::forward;
