//! Sums of two tensors, and of a tensor into another.
//!
//! ```text
//! add: y = a + b        accumulate: y = y + x
//! ```
//!
//! Shapes: a, b, x, y all alike. The gradient of either is dy itself.
//! Cost: one addition an element, 12 bytes.
//!
//! # Source
//! The residual connections of He et al. (2016), "Deep residual learning for image recognition", equation 1.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod differences;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{accumulate, add};
