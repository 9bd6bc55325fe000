//! A factor for every text: signal and noise of a level, the scale of an input, a weight; and how the loss depends on it.
//!
//! ```text
//! y_bl = m_b x_bl;      dx_bl = m_b dy_bl,  dm_b = sum_l x_bl . dy_bl
//! ```
//!
//! Shapes: x, y, dy f32 [b, l, d]; m, dm f32 [b, chunks], the factor one of a row's numbers; dm is zero in the others. The sum
//! over l and d is one text's alone, in f64. Cost: 1 operation and 8 bytes an element; backward of m 2 and 8.
//!
//! # Source
//! Kingma et al. (2021), "Variational diffusion models", section 3.1 (z = alpha x + sigma noise); Gulrajani & Hashimoto
//! (2023), "Likelihood-based diffusion language models", section 3 (a noise schedule that is learned through z).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
