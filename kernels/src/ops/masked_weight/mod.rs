//! Which tokens of a masked diffusion carry loss.
//!
//! ```text
//! w[b, l] = weight[b] where x_t[b, l] = mask, else 0
//! ```
//!
//! Shapes: x_t, w `[b, l]`; weight `[b]`, or `[b, blocks]` for blocks of l / blocks positions. A token that is not masked is known, so its term of the bound is zero
//! (carry-over). Nothing here carries a gradient. Cost: 8 bytes a token.
//!
//! # Source
//! Sahoo et al. (2024), "Simple and effective masked diffusion language models", section 3.2 (SUBS).

mod cpu;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::forward;
