//! adaLN modulation: every row of a batch element is scaled and shifted by that element's condition.
//!
//! ```text
//! y_bl = x_bl (1 + scale_b) + shift_b
//! dx_bl = dy_bl (1 + scale_b),  dshift_b = sum_l dy_bl,  dscale_b = sum_l dy_bl x_bl
//! ```
//!
//! Shapes: x, y, dy, dx [b, l, d]; m, dm [b, chunks d]: shift and scale are two different chunks of m, and dm is zero
//! in the others; all are f32 or all bf16. Sums over positions are in f32 and in order, some columns of a batch element a
//! task.
//! Cost: 2 flops and 8 bytes an element; backward 4 flops and 12 bytes.
//!
//! # Source
//! Peebles & Xie (2023), "Scalable diffusion models with transformers", section 3.2.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
