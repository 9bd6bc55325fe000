//! A tensor in another element type.
//!
//! ```text
//! y = x, to nearest, ties to even;      dx = dy in the type of x
//! ```
//!
//! Shapes: x, y alike. f32 to bf16 keeps eight bits of the fraction and every exponent; bf16 to f32 is exact.
//! Cost: no arithmetic; 6 bytes an element.
//!
//! # Source
//! Kalamkar et al. (2019), "A study of bfloat16 for deep learning training", section 2.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::cast;
