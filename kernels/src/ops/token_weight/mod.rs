//! What each token of a noisy text weighs in a loss, by what has become of it.
//!
//! ```text
//! w[b, l] = weight[b, g, class],   class = 0 where x_t is the mask, 1 where x_t = x_0, 2 elsewhere
//! ```
//!
//! Shapes: x_0, x_t, w `[b, l]`; weight `[b, g, 3]`: a row is cut in g equal groups of positions (one, a block each, or a
//! position each). In masked diffusion a token that is not masked is known, so the weights of the other two classes are zero
//! (carry-over). Nothing here carries a gradient. Cost: 12 bytes a token.
//!
//! # Source
//! Sahoo et al. (2024), "Simple and effective masked diffusion language models", section 3.2 (SUBS); von Rütte et al.
//! (2025), "Generalized interpolating discrete diffusion", proposition 3.4 (a weight a class).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cpu::class;
pub use cpu::forward;
