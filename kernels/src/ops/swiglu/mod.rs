//! The gate of a SwiGLU feed-forward layer: one half of the columns, through SiLU, lets the other pass.
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
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
