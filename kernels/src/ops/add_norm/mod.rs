//! A residual connection and the norm that follows it, in one pass: post-norm blocks use y alone, pre-norm blocks s too.
//!
//! ```text
//! s = x + dropout(h),   y = norm(s) gain + shift
//! ds_total = ds + d norm(s):   dx = ds_total,  dh = dropout(ds_total),  dgain and dshift as the norm's own
//! ```
//!
//! Shapes: x, h, s, y and their gradients [.., d]; gain, shift [d]; stats [n, 2] (layer norm) or [n] (RMS norm). The norm
//! is that of s as it was written, so that the backward pass, which reads s, differentiates what was computed. The mask
//! is that of [`dropout`](crate::ops::dropout): a function of (seed, stream, step, row), drawn again for dh.
//! Cost: that of the sum, the norm and the dropout; 16 n d bytes forward, 16 to 20 n d backward.
//!
//! # Source
//! Vaswani et al. (2017), "Attention is all you need", section 3.1 (LayerNorm(x + Sublayer(x))) and 5.4 (dropout of the
//! sublayer); Xiong et al. (2020), "On layer normalization in the transformer architecture", section 3 (pre-norm).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
