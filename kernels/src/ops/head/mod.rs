//! The head fused with what is asked of its logits, which are never in memory: only rows that count are computed, and every
//! tile of the product leaves a few numbers behind.
//!
//! ```text
//! u_nj = x_n . w_j + b_j                         for the live rows n, the column `forbid` left out
//! lse_n = log sum_j exp(u_nj),   nll_n = lse_n - u_n,target_n,   loss = sum_n weight_n nll_n
//! g_nj = dloss weight_n (exp(u_nj - lse_n) - [j = target_n]);   dx = g w,  dw = g^T x,  db_j = sum_n g_nj
//! id_n ~ softmax(u_n / temperature),  log_p_n = u_n,id - lse_n,  entropy_n of softmax(u_n)
//! ```
//!
//! Shapes: x, dx `[.., d]`; w, dw `[v, d]`; b, db `[v]`; target, weight, live, nll, lse, ids, log_p, entropy `[..]`. A row is
//! live where its weight (sampling: its live flag) is not zero; the others read 0 in every output.
//!
//! Live rows are gathered first. A tile of u then gives, for each of its rows, the largest logit, the sum of exponentials
//! below it and what sampling needs besides; the parts of a row are joined in f64, in order. The backward pass computes u
//! again, by chunks of [`CHUNK`] columns, since keeping it would cost `n v` numbers. Sampling inverts the cumulative sum as
//! `sample_tokens` does, from the same uniform number: the part of the row that holds the draw is found by the parts' sums
//! and its columns are computed once more, so two columns whose boundary the draw hits within rounding may be exchanged.
//!
//! Cost: 2 n v d flops forward and 6 n v d backward for n live rows; the bytes of w once, 16 n v / 48 for the parts.
//!
//! # Source
//! Milakov & Gimelshein (2018), "Online normalizer calculation for softmax"; Wijmans et al. (2024), "Cut your losses in
//! large-vocabulary language models"; for the draw see `sample_tokens`.

pub(crate) mod cuda;
mod parts;
mod rows;
mod sample;
#[cfg(test)]
mod tests;
mod train;

pub use sample::{Scratch, sample};
pub use train::{Backward, Forward, backward, forward};

/// Columns of the logits that the backward pass holds at a time: whole tiles of every unit.
pub const CHUNK: usize = 1536;

/// The most parts that a row of `v` logits has: one for each tile of the narrowest unit.
pub fn parts(v: usize) -> usize {
    v.div_ceil(32)
}

/// The head's parameters.
#[derive(Clone, Copy)]
pub struct Head<'a, X> {
    /// `[v, d]`.
    pub w: &'a [X],
    /// `[v]`.
    pub b: Option<&'a [f32]>,
    /// A column that has probability zero.
    pub forbid: Option<u32>,
    /// The width of a row.
    pub d: usize,
}

impl<X> Head<'_, X> {
    fn v(&self) -> usize {
        self.w.len() / self.d
    }
}
