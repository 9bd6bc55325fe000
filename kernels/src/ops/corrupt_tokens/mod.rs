//! The forward process of a categorical chain: every token is kept with probability alpha_bar, else drawn from the
//! limit.
//!
//! ```text
//! q(x_t | x_0) = alpha_bar onehot(x_0) + (1 - alpha_bar) pi,   pi = onehot(mask) or 1 / V
//! ```
//!
//! Shapes: x_0, x_t `[b, l]`; alpha_bar `[b]`, or `[b, blocks]` for blocks of l / blocks positions. The draws of a token are the block (seed, stream, step, b l + position,
//! 0): word 0 decides (the token stays if its uniform number is below alpha_bar), word 1 is the uniform id. A uniform
//! draw may give x_0 again, as the limit says. Tokens carry no gradient. Cost: one Philox block (60 integer operations)
//! a token; 8 bytes.
//!
//! # Source
//! Austin et al. (2021), "Structured denoising diffusion models in discrete state-spaces", equation 3 with the
//! absorbing and uniform limits of appendix A.2.

mod cpu;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::forward;
