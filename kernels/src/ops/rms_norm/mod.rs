//! RMS norm over the last extent.
//!
//! y = x / sqrt(mean(x^2) + eps) gain. x [n, d]: 5 n d operations, 8 n d bytes; backward 9 n d.
//!
//! Source: Zhang & Sennrich 2019, equation 4.

mod cpu;

pub use cpu::{backward, forward};
