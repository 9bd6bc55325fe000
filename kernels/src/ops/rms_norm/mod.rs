//! RMS norm over the last dimension.
//!
//! ```text
//! y = x rstd gain,  rstd = 1 / sqrt(mean(x^2) + eps);     stats = rstd
//! g = dy gain:  dx = rstd (g - x rstd^2 mean(g x)),  dgain = sum_n dy x rstd
//! ```
//!
//! Shapes: x, y, dy, dx [.., d]; gain, dgain [d]; stats [n]. Without gain, gain is 1.
//! x, y and their gradients are f32 or bf16, all else f32. dgain is summed as in [`layer_norm`](crate::ops::layer_norm).
//! Cost: 5 n d flops, 8 n d bytes (in f32); backward 9 n d flops, 12 n d bytes.
//!
//! # Source
//! Zhang & Sennrich (2019), "Root mean square layer normalization", equation 4.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
