//! Layer norm over the last dimension.
//!
//! ```text
//! h = (x - mean) rstd,  rstd = 1 / sqrt(var + eps),  y = h gain + shift;     stats = (mean, rstd)
//! g = dy gain:  dx = rstd (g - mean(g) - h mean(g h)),  dgain = sum_n dy h,  dshift = sum_n dy
//! ```
//!
//! Shapes: x, y, dy, dx [.., d]; gain, shift, dgain, dshift [d]; stats [n, 2]. The variance is the biased one, taken
//! around the mean in a second pass: a large mean costs no accuracy. Without gain (shift), gain is 1 (shift 0).
//! x, y and their gradients are f32 or bf16, all else f32. The backward pass adds dgain and dshift up a task and then over
//! tasks, which are a function of the shape: `scratch` [tasks, d or 2 d].
//! Cost: 8 n d flops, 8 n d bytes (in f32); backward 14 n d flops, 12 n d bytes.
//!
//! # Source
//! Ba, Kiros & Hinton (2016), "Layer normalization", equation 4.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
