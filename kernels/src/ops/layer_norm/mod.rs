//! Layer norm over the last extent.
//!
//! y = (x - mean) / sqrt(var + eps) gain + shift. x [n, d]: 8 n d operations, 8 n d bytes; backward 14 n d.
//!
//! Source: Ba, Kiros & Hinton 2016, equation 4.

mod cpu;

pub use cpu::{backward, forward};
