//! Every bound on tokens in one form: how far what the model says of a token is from what x_0 says.
//!
//! The truth gives each way out of x_t a rate (or a probability) rho_y, the model gives it u_y rho_y. With G(u) = u - 1 - log u,
//! which is never negative, the divergence of the two is sum_y rho_y G(u_y): of two jump processes, of two posteriors, or of two
//! marginals. Three values of rho occur, at x_0, at z = x_t and at all other ids, so few numbers say all of it:
//!
//! ```text
//! p = softmax(logits),  N = 1 + n p_z
//! u_y = (1 + s p_y) / N           where z != x_0,     u_0 = (start_0 + s_0 p_0) / N,  start_0 + s_0 = 1
//! u_y = (1 + n + s p_y) / N       where z  = x_0,     u_z = (start_z + (n + h) p_z) / N,  start_z = 1, or 1 - h where z = x_0
//! d = rho sum_y G(u_y) + rho_0 G(u_0) + rho_z G(u_z) + back G(1 / u_z) - ce log p_0,  y neither x_0 nor z
//! loss = sum_n w_n d_n
//! ```
//!
//! `terms` holds n, rho, a = rho s, rho_0, s_0, start_0, rho_z, h, start_z, back, pull, ce, in this order, for the class of the
//! token ([`token_weight`](super::token_weight)). Where rho is 0 its sum is that of a p_y / N. A mask is neither z nor a clean
//! token: p_z is 0 and its terms are not read. Where z = x_0 those of x_0 are not. `pull` is what N adds to the gradient,
//! n pull (p_z or p_0 - 1) / N^2, which each bound knows without the cancellation of its sum.
//! `galatea_processes::objectives::divergence` derives the numbers of each bound (uniform NELBO, D3PM, GIDD, flow matching, score
//! entropy, masked).
//!
//! All u are 1 for a model that knows x_0, and u - 1 is computed from p_y, p_z and 1 - p_0 without a difference of large numbers:
//! the result keeps its relative precision as p tends to onehot(x_0), where it is exactly 0, and at both ends of time.
//!
//! Under [`Link::Exp`](crate::Link) p = exp(logits), not normalised; N is 1 and u = s p at every id but z, which has no term.
//!
//! Shapes: logits `[b, l, v]`; x_0, x_t, w, d, lse `[b, l]`; terms `[b, g, 3, 12]`; loss `[1]`. Rows of weight zero are skipped:
//! they add nothing, get a zero gradient, and d and lse are 0. An x_0 that is forbidden or outside the vocabulary has an infinite
//! d. Cost: two exponentials and one logarithm an element, 4 b l v bytes forward; one exponential and one division, 8 b l v
//! bytes backward.
//!
//! # Source
//! Campbell et al. (2022), "A continuous time framework for discrete denoising models" (the divergence of jump processes);
//! Lou, Meng, Ermon (2024), SEDD, theorem 3.6; Sahoo et al. (2025), Duo (one sum for the uniform chain); Austin et al. (2021),
//! D3PM, equation 1; von Rütte et al. (2025), GIDD, theorem 3.1; Shaul et al. (2024), flow matching.

mod classes;
mod cpu;
pub(crate) mod cuda;
mod exp;
#[cfg(test)]
mod reference;
mod softmax;
#[cfg(test)]
mod tests;

pub use classes::TERMS;
pub use cpu::{Law, backward, forward};
