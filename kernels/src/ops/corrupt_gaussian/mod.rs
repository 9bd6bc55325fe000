//! The forward process of a Gaussian chain on embeddings.
//!
//! ```text
//! x_t = signal x_0 + sigma noise,   noise ~ N(0, 1);      dx_0 = signal dy
//! ```
//!
//! Shapes: x_0, x_t, noise `[b, l, d]`; level `[b, 2]` = (signal, sigma). Elements 4 i .. 4 i + 3 of row n = b l +
//! position come from the block (seed, stream, step, n, i): two words make two normals (Box-Muller). The noise is
//! written because losses and parameterisations ask for it. Cost: a Philox block and two Box-Muller pairs for four
//! elements; 12 bytes an element.
//!
//! # Source
//! Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", equation 4.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
