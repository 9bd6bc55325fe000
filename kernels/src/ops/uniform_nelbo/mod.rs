//! The NELBO of uniform-state diffusion: the rate of a token's bound, in one reduction over the vocabulary.
//!
//! With a = alpha_bar, bar_j = V a x_j + 1 - a for x = onehot(x_0), bar_hat_j = V a p_j + 1 - a for p = softmax(logits)
//! and z = x_t, the reverse chain leaves z for j at a rate proportional to r_j = bar_j / bar_z, and the model's at s_j
//! = bar_hat_j / bar_hat_z. The divergence of two Poisson processes, summed over where they may go, is the bound:
//!
//! ```text
//! nelbo = 1 / (V a) sum_j r_j (e_j - log(1 + e_j)),   e_j = s_j / r_j - 1
//! loss = sum_n w_n nelbo_n,   w = -a' weight
//! dnelbo / dp_j = e_j / (1 + e_j) / bar_hat_z  (j != z),    dnelbo / dp_z = V / bar_hat_z (1 / bar_z - 1 / bar_hat_z)
//! dlogits_j = dloss w p_j (g_j - sum_i p_i g_i),  g = dnelbo / dp
//! ```
//!
//! Only three values of r occur: 1 at z, bar_x0 / bar_z at x_0, and one value everywhere else, so a row needs one sum.
//! It is the sum of logarithms that Duo's Rao-Blackwellised form takes, arranged so that no term cancels: for the other
//! columns
//!
//! ```text
//! e_j = V a (p_j - c) / (r bar_hat_z),   z != x_0: r = 1,                         c = p_z
//!                                        z  = x_0: r = (1 - a) / (V a + 1 - a),   c = -r (1 - p_z)
//! ```
//!
//! and every term is at least zero: the result keeps its relative precision as a tends to 0 or 1 and as p tends to
//! onehot(x_0), where it is exactly 0.
//!
//! Shapes: logits `[b, l, v]`; x_0, x_t, nelbo, lse `[b, l]`; alpha_bar, w `[b]`; loss `[1]`. alpha_bar is held in
//! `[2^-60, 1 - 2^-24]`, where every term is finite. Rows of weight zero add nothing to the loss and get a zero
//! gradient. Cost: two exponentials and one logarithm an element, 4 b l v bytes forward; one exponential and one
//! division, 8 b l v bytes backward.
//!
//! # Source
//! Schiff et al. (2024), "Simple guidance mechanisms for discrete diffusion models" (UDLM: the bound); Sahoo et al.
//! (2025), "The diffusion duality" (Duo: the Rao-Blackwellised form). As a divergence of jump processes: Lou, Meng,
//! Ermon (2024), "Discrete diffusion modeling by estimating the ratios of the data distribution", theorem 3.6.

mod cpu;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward};
