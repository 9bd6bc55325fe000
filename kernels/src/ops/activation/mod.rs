//! Elementwise nonlinearities.
//!
//! ```text
//! relu(u) = max(u, 0)    silu(u) = u sigmoid(u)    gelu(u) = u/2 (1 + tanh z) = u sigmoid(2 z)
//! z = sqrt(2/pi) (u + 0.044715 u^3);    du = act'(u) dy, with relu'(0) = 0
//! gelu_erf(u) = u Phi(u), Phi(u) = (1 + erf(u / sqrt 2)) / 2;    tanh(u)
//! ```
//!
//! Shapes: u, y, dy, du all alike. NaN stays NaN.
//! Cost: 1 (relu), 12 (silu, tanh), 18 (gelu) or 26 (gelu_erf) operations an element, about twice that backward; 8 and 12 bytes an element.
//!
//! # Source
//! Hendrycks & Gimpel (2016), "Gaussian error linear units", section 2 (both forms); Elfwing, Uchibe & Doya (2018),
//! "Sigmoid-weighted linear units", section 2.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cpu::apply;
pub use cpu::{backward, forward};
