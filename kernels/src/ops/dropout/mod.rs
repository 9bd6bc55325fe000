//! Dropout with a mask that is a function of its key.
//!
//! ```text
//! y = x keep / (1 - p),   keep = 1 where uniform >= p;      dx = dy keep / (1 - p), the same op on dy
//! ```
//!
//! Shapes: x, y `[.., d]`, f32 or bf16. The uniform number of element i of row n (all dimensions but the last) is word i mod 4 of
//! the block (seed, stream, step, n, i / 4). The mask is never stored: the backward pass draws it again. Cost: a Philox
//! block for four elements; 8 bytes an element.
//!
//! # Source
//! Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting", section 4, in the
//! form that scales at training time.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use cpu::forward;
pub(crate) use cpu::{Mask, law};
