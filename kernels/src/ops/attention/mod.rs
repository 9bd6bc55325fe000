//! Attention of packed q, k, v, without a [len, len] tensor in memory.
//!
//! ```text
//! s_ij = q_i . k_j / sqrt(d_head),  lse_i = log sum_j exp(s_ij) over the visible keys j
//! p_ij = exp(s_ij - lse_i),  y_i = sum_j p_ij v_j
//! dp_ij = dy_i . v_j,  ds_ij = p_ij (dp_ij - dy_i . y_i) / sqrt(d_head)
//! dq_i = sum_j ds_ij k_j,  dk_j = sum_i ds_ij q_i,  dv_j = sum_i p_ij dy_i
//! ```
//!
//! With dropout the weights are m_ij p_ij, m_ij = 1 / (1 - p) where one stays and 0 elsewhere:
//!
//! ```text
//! y_i = sum_j m_ij p_ij v_j,  dv_j = sum_i m_ij p_ij dy_i,  dp_ij = m_ij (dy_i . v_j)
//! sum_j p_ij dp_ij = dy_i . sum_j m_ij p_ij v_j = dy_i . y_i:   ds_ij = p_ij (dp_ij - dy_i . y_i) / sqrt(d_head)
//! ```
//!
//! so that what the softmax's gradient subtracts is still a product of two rows, and lse that of all visible keys. The
//! weight of query i and key j in head h of batch element b stays where half j mod 8 of the Philox block (seed, stream,
//! step, b heads + h, 2^16 i + floor(j / 8)) is at least 2^16 p, rounded; 1 - p is that of the rounded p. Halves are counted
//! from the low one of the first word. Nothing else enters: neither length nor padding, blocks nor threads; and nothing is
//! stored: the backward pass draws again. Sixteen blocks are drawn together: a lane is a query, its halves are eight keys.
//!
//! Shapes: qkv, dqkv [b, l, (heads + 2 kv_heads) d_head]; visible [b, l]; y, dy [b, l, d] with d = heads d_head; lse [b,
//! heads, l]. Query head h uses key and value head h / (heads / kv_heads). A key is visible to a query if the mask says so
//! by position and `visible` is not 0. A row without a visible key gives zeros, log-sum -inf and no gradient.
//!
//! Scores stand as [keys, queries]: a block of up to 128 queries of all heads that share a key lies turned along the
//! lanes, keys and values are copied to padded rows, and every product is of matrices in cache (`micro`). The softmax is
//! kept as its largest score and its sum so far, and what was mixed is scaled when a larger score appears. Blocks of keys
//! that no query of a block may see are left out, and queries that see none of a block of keys. A task is a block of
//! queries, backward a key/value head.
//!
//! Under block diffusion a query sees two runs of keys: its own block of x_t, and what is before its reach in x_0. A block
//! of queries visits the keys that one of them sees and no others: of x_t as many as its queries and a block more, of x_0 a
//! prefix, so that the [2 l, 2 l] mask, three quarters of it empty, is neither stored nor paid for.
//!
//! With a cache, n new positions append their keys and values at `past` and attend to `past + n` positions: the same
//! blocks, or, for up to four queries a key, one pass over keys and one over values where they lie, in spans of positions
//! whose mixtures are put together at the end.
//!
//! Cost: forward 4 b l^2 d flops, 16 b l d bytes; backward 10 b l^2 d (scores again, dp, dq, dk, dv), 32 b l d bytes;
//! halved by a causal mask. Dropout: a Philox block for eight weights, each time the scores are computed.
//!
//! # Source
//! Vaswani et al. (2017), "Attention is all you need", equation 1; Milakov & Gimelshein (2018), "Online normalizer
//! calculation for softmax", algorithm 3; Dao et al. (2022), "FlashAttention", algorithms 1 and 4;
//! Arriola et al. (2025), "Block diffusion", section 3 and appendix B.6 (the mask on [x_t ; x_0]);
//! Ainslie et al. (2023), "GQA: training generalized multi-query transformer models from multi-head checkpoints";
//! Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting", section 4.

mod backward;
mod cached;
pub(crate) mod cuda;
mod dropped;
mod forward;
mod layout;
mod micro;
#[cfg(test)]
mod reference;
mod rows;
mod softmax;
#[cfg(test)]
mod tests;

pub use backward::backward;
pub use cached::cached;
pub use forward::forward;
pub use layout::Dims;
