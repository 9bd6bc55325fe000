//! The Euclidean norm of all gradients, and the clip that follows from it.
//!
//! ```text
//! norm = sqrt(sum_i g_i^2),   clip = min(1, max_norm / norm)
//! ```
//!
//! Shapes: g flat; norm `[1]`. Squares are formed and summed in f64 in at most 256 equal chunks, then over chunks in
//! order: no overflow, and the same bits for any number of threads. The optimizers apply the clip, so no pass over g is
//! spent on it. Cost: 2 len flops, 4 len bytes.
//!
//! # Source
//! Pascanu, Mikolov, Bengio (2013), "On the difficulty of training recurrent neural networks", algorithm 1.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use cpu::forward;
pub(crate) use cpu::{clip, sum_of_squares};
