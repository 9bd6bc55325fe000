//! Elementwise nonlinearities.
//!
//! relu(u) = max(u, 0); silu(u) = u sigmoid(u); gelu(u) = u/2 (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3))). About a dozen
//! operations and 8 bytes an element.
//!
//! Source: Hendrycks & Gimpel 2016, section 2 (the tanh form); Elfwing et al. 2018.

mod cpu;

pub use cpu::{backward, forward};
