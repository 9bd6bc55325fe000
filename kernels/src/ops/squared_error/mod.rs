//! The weighted squared error between two tensors of vectors.
//!
//! ```text
//! error_n = sum_d (prediction - target)^2,   loss = sum_n w_n error_n
//! dprediction = 2 dloss w_n (prediction - target) = -dtarget
//! ```
//!
//! Shapes: prediction, target `[.., d]`; w, error `[..]`; loss `[1]`. A row of weight zero adds nothing to the loss and
//! gets a zero gradient whatever it holds. The loss is summed over rows in f64, in row order. Cost: 3 n d flops, 8 n d
//! bytes forward; 4 n d flops, 16 n d bytes backward.
//!
//! # Source
//! Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", equation 14; Li et al. (2022), "Diffusion-LM",
//! section 4.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
