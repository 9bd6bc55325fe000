//! RMS norm of every head of q and k, times one gain: scores stay below gain^2 sqrt(d_head) however large the weights
//! grow. Learned gains, one for each element of a head of q and of k, may multiply what comes out.
//!
//! ```text
//! y_h = gain x_h r_h g,  r_h = 1 / sqrt(mean(x_h^2) + eps) for the heads of q and k;  v as it is
//! dx_h = gain r_h (e_h - x_h r_h^2 mean(e_h x_h)) with e_h = dy_h g,  dg = sum of gain dy_h x_h r_h, for q and k apart
//! ```
//!
//! Shapes: qkv, y, dy, dqkv [b, l, (heads + 2 kv_heads) d_head]; stats [n, heads + kv_heads] = r, the heads of q before
//! those of k; gains g [2 d_head], those of q before those of k (1 where they are not learned).
//! Cost: 5 flops an element of q and k (backward 9); 8 bytes an element of qkv (backward 12).
//!
//! # Source
//! Henry et al. (2020), "Query-key normalization for transformers", section 3, with RMS for the L2 norm as in Dehghani
//! et al. (2023), "Scaling vision transformers to 22 billion parameters", section 2; with learned gains as in Qwen3 (2025).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{Dims, Learned, backward, forward};
