//! The gate of a SwiGLU feed-forward layer: one half of the columns, through SiLU, lets the other pass. A linear layer with
//! `Activation::SwiGlu` applies it to its tiles while they are in cache; the op by itself is for a u that stands in memory.
//!
//! ```text
//! y = silu(a) b,  u = (a, b);      da = dy b silu'(a),  db = dy silu(a)
//! ```
//!
//! Shapes: u, du `[.., 2 f]`; y, dy `[.., f]`.
//! Cost: 13 operations and 12 bytes an element of y; backward 28 operations and 20 bytes.
//!
//! # Source
//! Shazeer (2020), "GLU variants improve transformer", equation 6 (the bilinear half without bias).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cpu::gate;
pub use cpu::{backward, forward};
