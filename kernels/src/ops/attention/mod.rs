//! Attention of packed q, k, v, without a [len, len] tensor in memory.
//!
//! ```text
//! s_ij = q_i . k_j / sqrt(d_head),  lse_i = log sum_j exp(s_ij) over the visible keys j
//! p_ij = exp(s_ij - lse_i),  y_i = sum_j p_ij v_j
//! dp_ij = dy_i . v_j,  ds_ij = p_ij (dp_ij - dy_i . y_i) / sqrt(d_head)
//! dq_i = sum_j ds_ij k_j,  dk_j = sum_i ds_ij q_i,  dv_j = sum_i p_ij dy_i
//! ```
//!
//! Shapes: qkv, dqkv [b, l, 3 d]; visible [b, l]; y, dy [b, l, d]; lse [b, heads, l]. A key is visible to a query if
//! the mask says so by position and `visible` is not 0. A row without a visible key gives zeros, log-sum -inf and no
//! gradient.
//!
//! Keys are taken 64 at a time for 64 queries: the softmax is kept as its largest score and its sum so far, and what
//! was mixed is scaled when a larger score appears. Tiles that no query of a block may see are skipped. A task is a
//! block of queries of a head, backward a head.
//! Cost: forward 4 b l^2 d flops, 16 b l d bytes; backward 10 b l^2 d (scores again, dp, dq, dk, dv), 32 b l d bytes;
//! halved by a causal mask.
//!
//! # Source
//! Vaswani et al. (2017), "Attention is all you need", equation 1; Milakov & Gimelshein (2018), "Online normalizer
//! calculation for softmax", algorithm 3; Dao et al. (2022), "FlashAttention", algorithms 1 and 4.

mod cpu;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod tile;

pub use cpu::{backward, forward};
