//! The forward process of a categorical chain: every token is kept with probability alpha_bar, else drawn from the noise.
//!
//! ```text
//! q(x_t | x_0) = alpha_bar onehot(x_0) + (1 - alpha_bar) pi,                    pi = onehot(mask) or 1 / V
//! q(x_t | x_0) = alpha_bar onehot(x_0) + m onehot(mask) + (1 - alpha_bar - m) / (V - 1)   (all ids but the mask)
//! ```
//!
//! Shapes: x_0, x_t `[b, l]`; level `[b, g]` = alpha_bar, or `[b, g, 2]` = (alpha_bar, m) for the hybrid limit. A row is cut
//! in g equal groups of positions, each with its own level: one, a block each, or a position each (an alpha_bar of 1 is never
//! corrupted). The draws of a token are the block (seed, stream, step, row, position): words 0 and 1 decide, words 2 and 3 are
//! the uniform id, exactly as `TokenProcess::corrupt` of galatea-processes draws. A uniform draw may give x_0 again, as the
//! limit says. Tokens carry no gradient. Cost: one Philox block (60 integer operations) a token; 8 bytes.
//!
//! # Source
//! Austin et al. (2021), "Structured denoising diffusion models in discrete state-spaces", equation 3 with the
//! absorbing and uniform limits of appendix A.2; von Rütte et al. (2025), "Generalized interpolating discrete diffusion",
//! section 3.3 (the hybrid).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::forward;
