//! Distances to the rows of a table as logits: the largest belongs to the nearest row.
//!
//! ```text
//! y_nv = -|x_n - w_v|;      c_nv = dy_nv / |x_n - w_v|, 0 at a distance of 0
//! dx_n = sum_v c_nv (w_v - x_n),  dw_v = sum_n c_nv (x_n - w_v)
//! ```
//!
//! Shapes: x, dx f32 [.., d]; w, dw f32 [v, d]; y, dy f32 [.., v]. Differences are squared as they are, so a near row keeps its
//! digits; a table of an output head's size would rather be a product. Sums over rows are in order. Cost: 3 n v d operations,
//! backward 8 n v d.
//!
//! # Source
//! Li et al. (2022), "Diffusion-LM", logits mode 2 of its code (`transformer_model2.py`, `get_logits`).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
