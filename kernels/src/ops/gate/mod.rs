//! The gated residual of adaLN-zero: a branch enters as much as its batch element's condition lets it.
//!
//! ```text
//! y_bl = x_bl + gate_b h_bl;      dh_bl = dy_bl gate_b,  dgate_b = sum_l dy_bl h_bl
//! ```
//!
//! Shapes: x, h, y, dy, dh [b, l, d]; m, dm [b, chunks d], the gate one chunk of m; dm is zero in the others. The
//! gradient of x is dy itself. All are f32 or all bf16. Sums over positions are in f32 and in
//! order, some columns of a batch element a task.
//! Cost: 2 flops and 12 bytes an element; backward 3 flops and 12 bytes.
//!
//! # Source
//! Peebles & Xie (2023), "Scalable diffusion models with transformers", section 3.2 (adaLN-zero).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
