//! A small table added to every batch element (learned positions) or at every position (additive time).
//!
//! ```text
//! positions: y_bl = x_bl + r_l,  dr_l = sum_b dy_bl        batch: y_bl = x_bl + r_b,  dr_b = sum_l dy_bl
//! ```
//!
//! Shapes: x, y [b, l, d]; r [l, d] (positions; with fewer rows, which divide l, they come again and again; with more, the
//! first of the l is read) or [b, d] (batch). x, y and dy are f32 or bf16; r and dr are f32 for
//! positions, which are a parameter, and of x's type for a batch, where they are activations. The gradient of x is dy
//! itself. Rows are summed in f32 and in order, each column by one task.
//! Cost: one addition an element; 8 bytes an element forward, 4 backward.
//!
//! # Source
//! Vaswani et al. (2017), "Attention is all you need", section 3.5 (positions are added to the embeddings).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
